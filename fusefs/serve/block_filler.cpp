#include "fusefs/serve/block_filler.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace pyram {

BlockFiller::BlockFiller(ExtentMapper& extents, StorePages store)
    : extents_(extents), store_(std::move(store)) {}

void BlockFiller::start() {
  thread_.start([this](const std::stop_token& stop) { work(stop); });
}

void BlockFiller::offer(std::vector<ExtentPlace> places) {
  const Lock lock(mutex_);
  // While a block waits, others of its pages are read, and ask for the same.
  if (waiting_.size() == kMostWaiting || std::ranges::find(waiting_, places) != waiting_.end()) {
    return;
  }
  waiting_.push_back(std::move(places));
  changed_.notify_one();
}

void BlockFiller::stop(std::function<void()> then) { thread_.stop(std::move(then)); }

std::optional<std::vector<ExtentPlace>> BlockFiller::next(const std::stop_token& stop) {
  Lock lock(mutex_);
  if (!changed_.wait(lock.waitable(), stop,
                     [&]() PYRAM_REQUIRES(mutex_) { return !waiting_.empty(); }) ||
      stop.stop_requested()) {
    return std::nullopt;
  }
  std::vector<ExtentPlace> places = std::move(waiting_.front());
  waiting_.pop_front();
  return places;
}

void BlockFiller::work(const std::stop_token& stop) {
  const WhenAbsent absent(Absent::kThrow);
  while (const auto places = next(stop)) {
    try {
      for (const ExtentPlace& place : *places) {
        if (stop.stop_requested()) break;
        store(place);
      }
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
      // A READ of those bytes gets the error, which is logged then.
    }
  }
}

void BlockFiller::store(const ExtentPlace& place) {
  const Extent extent = extents_.extent_at(place.file, place.offset);
  if (extent.length == 0 || extent.block.is_hole()) return;
  const BlockCache::Pin pin = extents_.pin(extent);
  store_(place.file, extent.file_offset, ExtentMapper::bytes(extent, pin));
}

}  // namespace pyram
