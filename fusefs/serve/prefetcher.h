// Puts what a start will read into the kernel's page cache before it is asked for.
//
// Decompressed bytes go straight into the kernel (Transport::store), so no second copy stays and
// the program sends no request. The order is the hot list's. A READ that needs a block that is
// being decompressed joins it in the block cache; and when a READ was first, the rest of its block
// is fetched next, so that one decompression serves both.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "fusefs/image/hot_list.h"
#include "fusefs/image/image.h"
#include "fusefs/serve/background_thread.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/serve/lookup_helper.h"
#include "fusefs/statistics.h"
#include "support/locks.h"

namespace pyram {

class Prefetcher {
 public:
  // What is to be fetched. Called once, in a thread of the prefetcher's; throws nothing.
  // Told to stop, it returns soon, with whatever it has.
  using List = std::function<std::vector<HotGroup>(const std::stop_token&)>;

  // Decompresses in `threads` threads. A process is forked here (lookup_helper.h); threads are
  // started by start(). The references, and what `store` uses, have to outlive the prefetcher.
  // Throws Error where the process cannot be started.
  Prefetcher(const Image& image, ExtentMapper& extents, Statistics& statistics,
             const std::filesystem::path& mount_point, List list, StorePages store,
             unsigned threads);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // To be called when the mount answers, once. Begins with the first group, unless stop() came
  // before. Throws std::exception where there is no thread to be had; it is stopped then.
  void start();

  // A READ of `file` is answered out of `block`. Groups may wait for the file; and what is to be
  // fetched of the block is fetched next, while the block is in the block cache. Cheap.
  // Thread-safe.
  void note_read(InodeRef file, const Block& block);

  // Whether it stores something soon. False until the hot list has been read: an image without a
  // list must not keep others from storing. Cheap. Thread-safe.
  [[nodiscard]] bool is_busy() const { return busy_; }

  // The process that looks names up. REQUIRES: not started yet.
  [[nodiscard]] pid_t helper() const { return lookup_helper_->child(); }

  // Stops, and calls `then` once it has nothing in the mount any more. Does not wait.
  // Thread-safe.
  void stop(std::function<void()> then);

 private:
  // A file that is fetched, and the directory that it lies in where listing that is no great work.
  struct File {
    InodeRef inode;
    const std::string* path = nullptr;  // The group's.
    std::optional<InodeRef> directory;
  };
  // One block's part of a range.
  struct Job {
    const File* file = nullptr;
    Extent extent;
    std::uint32_t begin = 0;  // In the extent.
    std::uint32_t end = 0;
  };
  // What a group comes to. The files stay where they are: the jobs point to them.
  struct Plan {
    std::deque<File> files;
    std::vector<Job> jobs;
  };
  class Queue;

  void work(const std::stop_token& stop);
  // Reads the list of groups. After the mount answers, since programs wait for its first answer.
  void list_groups(const std::stop_token& stop);
  // REQUIRES: the groups are listed.
  void want(std::size_t group) PYRAM_REQUIRES(mutex_);
  // The group that waits for that file to be read, if one does. REQUIRES: as above.
  void want_behind(InodeRef trigger) PYRAM_REQUIRES(mutex_);
  // Waits for a group that is wanted; nothing when there will be none.
  [[nodiscard]] std::optional<std::size_t> next_group(const std::stop_token& stop);
  // Told to stop, it returns at once.
  [[nodiscard]] Plan plan(const HotGroup& group, const std::stop_token& stop);
  // The file of that path, added; null when it is no file of the image.
  const File* add_file(Plan& plan, const std::string& path) const;
  // Has what is missing of it fetched soon, of an image that is not here as a whole yet.
  void announce(const Plan& plan) const;
  // By all threads, and returns when all is fetched.
  void fetch(const Plan& plan, const std::stop_token& stop);
  // By one of them.
  void fetch_from(Queue& queue, const std::stop_token& stop);
  // Makes the kernel know the file; false when that can't be had any more. Thread-safe.
  [[nodiscard]] bool make_known(const File& file);

  const Image& image_;
  ExtentMapper& extents_;
  Statistics& statistics_;
  const List list_;
  const StorePages store_;
  const unsigned thread_count_;
  // Constant once listed_; not read before.
  std::vector<HotGroup> groups_;
  std::map<InodeRef, std::size_t> triggers_;
  std::atomic<bool> listed_ = false;
  std::atomic<bool> busy_ = false;

  // Also held while the helper is asked. Taken before mutex_.
  Mutex known_mutex_;
  // Files looked up, and directories listed.
  std::set<InodeRef> known_ PYRAM_GUARDED_BY(known_mutex_);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::unique_ptr<LookupHelper> lookup_helper_;  // Until it has finished.
  // Files that were read before the groups were listed.
  std::set<InodeRef> early_ PYRAM_GUARDED_BY(mutex_);
  std::vector<std::size_t> wanted_ PYRAM_GUARDED_BY(mutex_);
  // By group: wanted already, once.
  std::vector<bool> seen_ PYRAM_GUARDED_BY(mutex_);
  // Nothing is to be fetched any more.
  bool stopped_ PYRAM_GUARDED_BY(mutex_) = false;
  // What is being fetched.
  Queue* queue_ PYRAM_GUARDED_BY(mutex_) = nullptr;

  BackgroundThread thread_;  // Last: it ends before what it uses.
};

}  // namespace pyram
