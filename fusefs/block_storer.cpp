#include "fusefs/block_storer.h"

#include <exception>
#include <utility>

namespace pyram {

BlockStorer::BlockStorer(FileReader& reader, Store store)
    : reader_(reader), store_(std::move(store)) {
  thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

void BlockStorer::offer(InodeRef file, const Extent& extent) {
  const std::lock_guard lock(mutex_);
  if (waiting_.size() == kMostWaiting) return;
  waiting_.push_back({file, extent});
  changed_.notify_one();
}

void BlockStorer::stop(std::function<void()> then) {
  thread_.request_stop();
  {
    const std::lock_guard lock(mutex_);
    if (!finished_) {
      when_finished_ = std::move(then);
      return;
    }
  }
  then();
}

std::optional<BlockStorer::Job> BlockStorer::next(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait(lock, stop, [&] { return !waiting_.empty(); }) || stop.stop_requested()) {
    return std::nullopt;
  }
  const Job job = waiting_.front();
  waiting_.pop_front();
  return job;
}

void BlockStorer::work(const std::stop_token& stop) {
  while (const std::optional<Job> job = next(stop)) {
    try {
      const BlockCache::Pin pin = reader_.pin(job->extent);
      store_(job->file, job->extent.file_offset, FileReader::bytes(job->extent, pin));
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
      // Whoever reads those bytes gets the error, and it is logged then.
    }
  }
  std::function<void()> then;
  {
    const std::lock_guard lock(mutex_);
    finished_ = true;
    then.swap(when_finished_);
  }
  if (then) then();
}

}  // namespace pyram
