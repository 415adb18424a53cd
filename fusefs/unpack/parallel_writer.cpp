#include "fusefs/unpack/parallel_writer.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <thread>
#include <utility>

#include "support/locks.h"

namespace pyram {
namespace {

// Of a large file, what one thread writes at a time.
constexpr std::uint64_t kPiece = std::uint64_t{2} << 20;
// So many large files are written in pieces. They are all open at the same time.
constexpr std::size_t kMostLarge = 64;
// So many small files one thread writes in a row. They are neighbours in the image: the thread then
// has their fragment block at hand.
constexpr std::size_t kSmallInARow = 16;

struct LargeFile {
  const PlannedFile* file;
  UniqueFd fd;
};

// A piece of a large file, or some small files.
struct Job {
  const LargeFile* large = nullptr;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::span<const PlannedFile* const> small{};
};

void run(const Job& job, FileWriter& writer) {
  if (job.large != nullptr) writer.write(job.large->fd.get(), *job.large->file, job.begin, job.end);
  for (const PlannedFile* file : job.small) writer.write_whole(*file);
}

}  // namespace

unsigned threads_of_machine() {
  constexpr unsigned kMost = 8;
  return std::clamp(std::thread::hardware_concurrency(), 1U, kMost);
}

void run_in_parallel(unsigned threads, std::size_t count, const std::function<Work()>& make_work) {
  std::atomic<std::size_t> next{0};
  Mutex mutex;  // Guards failure.
  std::exception_ptr failure;
  const auto run = [&] {
    try {
      const Work work = make_work();
      for (std::size_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      const Lock lock(mutex);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  {
    std::vector<std::jthread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(run);
    run();
  }
  if (failure) std::rethrow_exception(failure);
}

void write_files(const Image& image, const Plan& plan, unsigned threads,
                 std::span<const PlannedFile* const> files) {
  std::vector<LargeFile> large;
  std::vector<const PlannedFile*> small;
  for (const PlannedFile* file : files) {
    if (threads > 1 && file->attributes.size > kPiece && large.size() < kMostLarge) {
      large.push_back({file, create_file(plan, *file)});
    } else {
      small.push_back(file);
    }
  }
  // Large ones first: no thread is left with the last of them when the others have nothing to do.
  std::vector<Job> jobs;
  for (const LargeFile& file : large) {
    const std::uint64_t size = file.file->attributes.size;
    for (std::uint64_t begin = 0; begin < size; begin += kPiece) {
      jobs.push_back({.large = &file, .begin = begin, .end = std::min(begin + kPiece, size)});
    }
  }
  for (std::size_t i = 0; i < small.size(); i += kSmallInARow) {
    jobs.push_back(
        {.small = std::span(small).subspan(i, std::min(kSmallInARow, small.size() - i))});
  }
  run_in_parallel(threads, jobs.size(), [&]() -> Work {
    // One writer for each thread.
    return [&, writer = std::make_shared<FileWriter>(image, plan)](std::size_t i) {
      run(jobs[i], *writer);
    };
  });
}

}  // namespace pyram
