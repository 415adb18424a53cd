#include "fusefs/serve/page_cache_filler.h"

#include <exception>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/serve/file_system.h"
#include "fusefs/serve/whole_image.h"

namespace pyram {
namespace {

// Does what makes the mount faster; where that fails, it serves without.
template <typename Action>
void or_without(Log& log, const char* what, Action&& action) {
  try {
    action();
  } catch (const std::exception& error) {
    log.error("cannot " + std::string(what) + ": " + error.what() + "; it serves without");
  }
}

}  // namespace

PageCacheFiller::PageCacheFiller(const Image& image, ExtentMapper& extents,
                                 const Transport& transport, Statistics& statistics, Log& log,
                                 const FillPlan& plan)
    : log_(log), fragments_(image.superblock().block_size) {
  const StorePages store = [&image, &transport, &statistics](InodeRef file, std::uint64_t offset,
                                                             std::span<const std::byte> bytes) {
    if (transport.store(to_node(image, file), offset, bytes)) {
      statistics.bytes_stored.add(bytes.size());
    }
  };
  if (plan.whole_blocks) blocks_.emplace(extents, store);
  if (plan.prefetch == Prefetch::kNone) return;
  const auto list = [&image, &log,
                     all = plan.prefetch == Prefetch::kAll](const std::stop_token& stop) {
    try {
      return all ? whole_image(image, stop) : hot_groups(image);
    } catch (const std::exception& error) {
      log.error(error.what());  // The image works without it.
      return std::vector<HotGroup>();
    }
  };
  or_without(log_, "prefetch", [&] {
    prefetcher_ = std::make_unique<Prefetcher>(image, extents, statistics, plan.mount_point, list,
                                               store, plan.prefetch_threads);
  });
}

void PageCacheFiller::start() {
  if (blocks_) or_without(log_, "store whole blocks", [&] { blocks_->start(); });
  if (prefetcher_) or_without(log_, "prefetch", [&] { prefetcher_->start(); });
}

void PageCacheFiller::note_part(InodeRef file, const Extent& extent, std::size_t taken,
                                bool decompressed) noexcept {
  if (!blocks_) return;
  try {
    offer_rest(file, extent, taken, decompressed);
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // No memory: then the rest is read when a program asks for it.
  }
}

void PageCacheFiller::offer_rest(InodeRef file, const Extent& extent, std::size_t taken,
                                 bool decompressed) {
  // What the prefetch stores soon is not to be stored twice.
  if (prefetcher_ && prefetcher_->is_busy()) return;
  if (!extent.is_whole_block()) {
    std::vector<ExtentPlace> tails = fragments_.note_read(extent.fragment);
    if (!tails.empty()) blocks_->offer(std::move(tails));
    return;
  }
  // A program that reads single pages reads at random: each page would be a request, and the block
  // would have left the cache by then. (Where a mapped library is read, the kernel asks for the
  // pages around as well.) Every second one of them asks for a store only, as some are answered
  // while the block is being stored.
  constexpr std::size_t kPage = 4096;
  const unsigned before = part_reads_.note(extent.block);
  const bool single_page = taken <= kPage && before % 2 == 0;
  const bool decompressed_again = decompressed && before > 0;
  if (single_page || decompressed_again) blocks_->offer({{file, extent.file_offset}});
}

void PageCacheFiller::stop_prefetch(std::function<void()> then) {
  prefetcher_ ? prefetcher_->stop(std::move(then)) : then();
}

void PageCacheFiller::stop(std::function<void()> then) {
  stop_prefetch([this, then = std::move(then)] { blocks_ ? blocks_->stop(then) : then(); });
}

}  // namespace pyram
