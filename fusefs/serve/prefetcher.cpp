#include "fusefs/serve/prefetcher.h"

#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <limits>
#include <unordered_map>
#include <utility>

#include "support/error.h"

namespace pyram {
namespace {

// Compressed bytes that the disk is asked for ahead of the block that is decompressed.
constexpr std::uint64_t kReadAhead = std::uint64_t{2} << 20;
// What one group plans at most, in blocks: 32 GiB of them with the usual block size.
constexpr std::size_t kMostJobs = std::size_t{1} << 18;

// The largest listing, in bytes of the image, that is asked for as a whole because of one file in
// it: about 300 names, one answer of the daemon.
constexpr std::uint64_t kListingLimit = std::uint64_t{8} << 10;

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

}  // namespace

// Hands a group's blocks out, and tells the disk in time which ones come next. Thread-safe.
class Prefetcher::Queue {
 public:
  // Puts a block's jobs together, where the first of them is: a start comes back to most blocks of
  // its interpreter's library, when they have left the block cache.
  Queue(const Image& image, const std::vector<Job>& jobs) : image_(image) {
    for (const Job& job : jobs) {
      const auto [place, is_new] = place_of_.try_emplace(job.extent.block.position, blocks_.size());
      if (is_new) blocks_.emplace_back();
      blocks_[place->second].push_back(job);
    }
    taken_.resize(blocks_.size());
  }

  // The next jobs, all in one block; none when there are no more.
  [[nodiscard]] std::span<const Job> take() {
    const Lock lock(mutex_);
    while (!preferred_.empty()) {
      const std::size_t block = preferred_.front();
      preferred_.pop_front();
      if (!taken_[block]) return take(block);
    }
    while (next_ < blocks_.size() && taken_[next_]) ++next_;
    if (next_ == blocks_.size()) return {};
    while (hinted_ < blocks_.size() && ahead_ < kReadAhead) {
      if (!taken_[hinted_]) {
        const Block& block = blocks_[hinted_].front().extent.block;
        image_.read_ahead(block);
        ahead_ += block.stored_size;
      }
      ++hinted_;
    }
    return take(next_);
  }

  // The block is in the block cache now: it comes next, if it has not been taken.
  void prefer(std::uint64_t position) {
    const Lock lock(mutex_);
    const auto found = place_of_.find(position);
    if (found != place_of_.end() && !taken_[found->second]) preferred_.push_back(found->second);
  }

 private:
  std::span<const Job> take(std::size_t block) PYRAM_REQUIRES(mutex_) {
    taken_[block] = true;
    if (block < hinted_) ahead_ -= blocks_[block].front().extent.block.stored_size;
    return blocks_[block];
  }

  const Image& image_;
  std::vector<std::vector<Job>> blocks_;                     // In the order of their first jobs.
  std::unordered_map<std::uint64_t, std::size_t> place_of_;  // In blocks_, by position.
  Mutex mutex_;
  std::vector<bool> taken_ PYRAM_GUARDED_BY(mutex_);  // As blocks_.
  std::deque<std::size_t> preferred_ PYRAM_GUARDED_BY(mutex_);
  std::size_t next_ PYRAM_GUARDED_BY(mutex_) = 0;
  // The disk has been told of all blocks before this one.
  std::size_t hinted_ PYRAM_GUARDED_BY(mutex_) = 0;
  // Bytes that it was told of and that are not taken yet.
  std::uint64_t ahead_ PYRAM_GUARDED_BY(mutex_) = 0;
};

Prefetcher::Prefetcher(const Image& image, ExtentMapper& extents, Statistics& statistics,
                       const std::filesystem::path& mount_point, List list, StorePages store,
                       unsigned threads)
    : image_(image),
      extents_(extents),
      statistics_(statistics),
      list_(std::move(list)),
      store_(std::move(store)),
      thread_count_(threads),
      lookup_helper_(std::make_unique<LookupHelper>(mount_point)) {}

Prefetcher::~Prefetcher() {
  stop([] {});
}

void Prefetcher::start() {
  try {
    thread_.start([this](const std::stop_token& stop) { work(stop); });
  } catch (...) {
    stop([] {});
    throw;
  }
}

void Prefetcher::list_groups(const std::stop_token& stop) {
  std::vector<HotGroup> groups = list_(stop);
  std::vector<std::size_t> first;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].trigger.empty()) {
      first.push_back(i);
    } else if (const auto file = find_path(image_, groups[i].trigger)) {
      triggers_.emplace(*file, i);
    }
  }
  const Lock lock(mutex_);
  groups_ = std::move(groups);
  seen_.resize(groups_.size());
  listed_.store(true, std::memory_order_release);
  for (const std::size_t group : first) want(group);
  for (const InodeRef file : std::exchange(early_, {})) want_behind(file);
}

void Prefetcher::want(std::size_t group) {
  if (seen_[group]) return;
  seen_[group] = true;
  busy_ = true;
  wanted_.push_back(group);
  changed_.notify_all();
}

void Prefetcher::want_behind(InodeRef trigger) {
  const auto found = triggers_.find(trigger);
  if (found != triggers_.end()) want(found->second);
}

void Prefetcher::note_read(InodeRef file, const Block& block) {
  const bool listed = listed_.load(std::memory_order_acquire);
  const bool triggers = !listed || triggers_.contains(file);
  if (!triggers && !busy_) return;
  const Lock lock(mutex_);
  if (stopped_) return;
  if (queue_ != nullptr) queue_->prefer(block.position);
  if (!triggers) return;
  if (listed_.load(std::memory_order_relaxed)) {
    want_behind(file);
  } else {
    early_.insert(file);
  }
}

void Prefetcher::stop(std::function<void()> then) {
  if (image_.partial() != nullptr) image_.partial()->end_quiet_waits();
  {
    const Lock lock(mutex_);
    stopped_ = true;
    early_.clear();
    // A look-up that it waits for ends with the helper.
    if (lookup_helper_) lookup_helper_->kill();
  }
  thread_.stop(std::move(then));
}

void Prefetcher::work(const std::stop_token& stop) {
  // Of an image that is being fetched, what programs wait for comes first.
  const WhenAbsent absent(Absent::kWaitQuietly);
  try {
    list_groups(stop);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // As below; there are no groups then.
  }
  // No lower priority: a reader may be waiting for the very block that we decompress.
  while (const std::optional<std::size_t> group = next_group(stop)) {
    try {
      fetch(plan(groups_[*group], stop), stop);
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
      // Metadata that can't be read, no memory, or no thread: a program that reads the same is
      // told.
    }
    // What was read of the image is in the kernel's cache decompressed: once is enough.
    image_.forget_stored();
    extents_.forget_blocks();
  }
  const Lock lock(mutex_);
  stopped_ = true;
  lookup_helper_.reset();
  busy_ = false;
}

std::optional<std::size_t> Prefetcher::next_group(const std::stop_token& stop) {
  Lock lock(mutex_);
  busy_ = !wanted_.empty();
  const bool more = std::ranges::count(seen_, false) > 0;
  if (wanted_.empty() && (!more || triggers_.empty())) return std::nullopt;
  if (!changed_.wait(lock.waitable(), stop,
                     [&]() PYRAM_REQUIRES(mutex_) { return !wanted_.empty(); }))
    return std::nullopt;
  if (stop.stop_requested()) return std::nullopt;
  const std::size_t group = wanted_.front();
  wanted_.erase(wanted_.begin());
  return group;
}

Prefetcher::Plan Prefetcher::plan(const HotGroup& group, const std::stop_token& stop) {
  Plan plan;
  const std::string* path = nullptr;  // Of the last file looked at, also when there was none.
  const File* file = nullptr;
  std::uint64_t bytes = 0;
  std::size_t steps = 0;
  for (const HotRange& range : group.ranges) {
    if (stop.stop_requested()) return {};
    if (path == nullptr || *path != range.path) {
      path = &range.path;
      file = add_file(plan, range.path);
    }
    if (file == nullptr) continue;
    const std::uint64_t end = range.offset + range.length;
    for (std::uint64_t at = range.offset; at < end;) {
      // A list or a size that claims more than any image has.
      if (++steps > kMostJobs || stop.stop_requested()) break;
      const Extent extent = extents_.extent_at(file->inode, at);
      if (extent.length == 0) break;
      const std::uint64_t extent_end = extent.file_offset + extent.length;
      Job job{.file = file,
              .extent = extent,
              .begin = static_cast<std::uint32_t>(at - extent.file_offset),
              .end = static_cast<std::uint32_t>(std::min(extent_end, end) - extent.file_offset)};
      // The kernel's cache is made of whole pages.
      constexpr std::uint32_t kPage = 4096;
      job.begin = job.begin / kPage * kPage;
      job.end = std::min((job.end + kPage - 1) / kPage * kPage, extent.length);
      if (!extent.block.is_hole()) {
        plan.jobs.push_back(job);
        bytes += job.end - job.begin;
      }
      at = extent_end;
    }
  }
  statistics_.prefetch_total += bytes;
  return plan;
}

const Prefetcher::File* Prefetcher::add_file(Plan& plan, const std::string& path) const {
  const auto directory = find_path(image_, parent_of(path));
  if (!directory) return nullptr;
  const auto entry = image_.lookup(*directory, std::string_view(path).substr(path.rfind('/') + 1));
  if (!entry || !S_ISREG(entry->type)) return nullptr;
  File& file = plan.files.emplace_back(File{entry->inode, &path, {}});
  if (image_.attributes(*directory).size <= kListingLimit) file.directory = directory;
  return &file;
}

bool Prefetcher::make_known(const File& file) {
  const Lock lock(known_mutex_);
  if (file.directory) {
    return !known_.insert(*file.directory).second || lookup_helper_->list(parent_of(*file.path));
  }
  return !known_.insert(file.inode).second || lookup_helper_->look_up(*file.path);
}

void Prefetcher::announce(const Plan& plan) const {
  const PartialImage* const partial = image_.partial();
  if (partial == nullptr) return;
  // Neighbours in one request: what waits for the fetcher has room for some thousands only.
  ByteRange run;
  for (const Job& job : plan.jobs) {
    const Block& block = job.extent.block;
    if (block.position >= run.position && block.position <= run.position + run.length) {
      run.length = std::max(run.length, block.position + block.stored_size - run.position);
      continue;
    }
    partial->announce(run);
    run = {block.position, block.stored_size};
  }
  partial->announce(run);
}

void Prefetcher::fetch(const Plan& plan, const std::stop_token& stop) {
  announce(plan);
  Queue queue(image_, plan.jobs);
  const auto publish = [this](Queue* current) {
    const Lock lock(mutex_);
    queue_ = current;
  };
  struct Withdraw {
    decltype(publish)& withdraw;
    ~Withdraw() { withdraw(nullptr); }
  } const withdraw{publish};
  publish(&queue);
  std::vector<std::jthread> helpers;
  for (unsigned i = 1; i < thread_count_; ++i) {
    helpers.emplace_back([&] { fetch_from(queue, stop); });
  }
  fetch_from(queue, stop);
}

void Prefetcher::fetch_from(Queue& queue, const std::stop_token& stop) {
  const WhenAbsent absent(Absent::kWaitQuietly);
  try {
    for (auto jobs = queue.take(); !jobs.empty() && !stop.stop_requested(); jobs = queue.take()) {
      for (const Job& job : jobs) {
        BlockCache::Pin pin = extents_.pin(job.extent);
        const auto bytes =
            ExtentMapper::bytes(job.extent, pin).subspan(job.begin, job.end - job.begin);
        if (!make_known(*job.file)) return;
        store_(job.file->inode, job.extent.file_offset + job.begin, bytes);
        statistics_.prefetch_done += bytes.size();
        if (&job == &jobs.back()) pin.set_spent();
      }
    }
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // A READ of those bytes gets the error, which is logged then.
  }
}

}  // namespace pyram
