#include "fusefs/block_storer.h"

#include <exception>
#include <utility>

namespace pyram {

BlockStorer::BlockStorer(FileReader& reader, Store store)
    : reader_(reader), store_(std::move(store)) {
  thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

void BlockStorer::queue(Job job) {
  const std::lock_guard lock(mutex_);
  if (waiting_.size() == kMostWaiting) return;
  waiting_.push_back(std::move(job));
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
  Job job = std::move(waiting_.front());
  waiting_.pop_front();
  return job;
}

void BlockStorer::work(const std::stop_token& stop) {
  while (const std::optional<Job> job = next(stop)) {
    try {
      if (job->tails.empty()) store(job->file, job->extent);
      for (const FileTail& tail : job->tails) {
        if (stop.stop_requested()) break;
        store(tail.file, reader_.extent_at(tail.file, tail.offset));
      }
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

void BlockStorer::store(InodeRef file, const Extent& extent) {
  if (extent.length == 0 || extent.block.is_hole()) return;
  const BlockCache::Pin pin = reader_.pin(extent);
  store_(file, extent.file_offset, FileReader::bytes(extent, pin));
}

}  // namespace pyram
