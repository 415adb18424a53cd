// Fills the kernel's page cache beside the replies, so that later reads need no request:
//   - what a start will read, before it is asked for (prefetcher.h);
//   - the whole of a block of which single pages are read (block_filler.h);
//   - the files that share a fragment block with files that were read (fragment_index.h).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "fusefs/image/image.h"
#include "fusefs/log.h"
#include "fusefs/mount_options.h"
#include "fusefs/serve/block_filler.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/serve/fragment_index.h"
#include "fusefs/serve/part_reads.h"
#include "fusefs/serve/prefetcher.h"
#include "fusefs/serve/transport.h"
#include "fusefs/statistics.h"

namespace pyram {

// What is to be filled.
struct FillPlan {
  Prefetch prefetch = Prefetch::kNone;
  unsigned prefetch_threads = 1;
  std::filesystem::path mount_point{};  // Where the prefetch's helper looks names up.
  bool whole_blocks = false;            // And files that share a fragment block.
};

// Thread-safe, but for what is said below. It is an optimisation: where a part of it cannot be had,
// that is logged, and the mount serves without it.
class PageCacheFiller {
 public:
  // With a prefetch a process is forked here (lookup_helper.h). The references have to outlive it.
  PageCacheFiller(const Image& image, ExtentMapper& extents, const Transport& transport,
                  Statistics& statistics, Log& log, const FillPlan& plan);
  PageCacheFiller(const PageCacheFiller&) = delete;
  PageCacheFiller& operator=(const PageCacheFiller&) = delete;

  // The process that looks names up for the prefetch; -1 without one. REQUIRES: not started yet.
  [[nodiscard]] pid_t helper() const { return prefetcher_ ? prefetcher_->helper() : -1; }

  // Starts its threads. To be called once, when threads answer requests.
  void start();

  // The kernel is told of an inode. Cheap.
  void note_inode(InodeRef file, const Attributes& attributes) {
    if (blocks_) fragments_.note(file, attributes);
  }
  // A READ of `file` is about to be answered out of a block. Cheap.
  void note_read(InodeRef file, const Block& block) {
    if (prefetcher_) prefetcher_->note_read(file, block);
  }
  // A READ took `taken` bytes of an extent whose block has more. `decompressed`: for this READ;
  // false when the block was in the cache. To be called after the reply, which a store would wait
  // for.
  void note_part(InodeRef file, const Extent& extent, std::size_t taken,
                 bool decompressed) noexcept;

  // Both call `then`, which throws nothing, when they have stopped. They do not wait: until then
  // READs have to be answered. The prefetch alone has paths of the mount in use, which would keep
  // it from being unmounted.
  void stop_prefetch(std::function<void()> then);
  void stop(std::function<void()> then);

  // Ends its threads, and with them the calls of stop()'s `then`, which may still use the session.
  // REQUIRES: no other thread calls anything here any more.
  void end() {
    prefetcher_.reset();
    blocks_.reset();
  }

  // Gives back the memory of what is only kept for speed.
  void forget() { fragments_.clear(); }

 private:
  void offer_rest(InodeRef file, const Extent& extent, std::size_t taken, bool decompressed);

  Log& log_;
  PartReads part_reads_;
  FragmentIndex fragments_;
  // Last: their threads end before what they use. Constant after construction.
  std::optional<BlockFiller> blocks_;
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace pyram
