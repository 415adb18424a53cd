// Puts the whole of a block into the kernel's page cache once it is worth it.
//
// Small reads at many places of a large file ask for a few pages of a block each. The first time
// the rest is not worth the memory. The second time it is: otherwise every further read would be a
// request, and the block would be decompressed again when it has left our cache. The same holds for
// the files that share a fragment block (fragment_index.h).
//
// It has a thread of its own: a store waits for the pages that a READ holds, and the threads that
// answer READs must never wait for each other.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "fusefs/serve/background_thread.h"
#include "fusefs/serve/extent_mapper.h"
#include "support/locks.h"

namespace pyram {

class BlockFiller {
 public:
  // Pins that it holds at once.
  static constexpr std::size_t kReaders = 1;

  // The mapper has to outlive it, and what `store` uses.
  BlockFiller(ExtentMapper& extents, StorePages store);
  BlockFiller(const BlockFiller&) = delete;
  BlockFiller& operator=(const BlockFiller&) = delete;

  // Starts its thread, unless stop() came before. Called once. Throws std::exception where there is
  // none to be had; nothing is stored then.
  void start();

  // These extents, which lie in one block, are to be stored, unless too much waits already. Cheap.
  // Thread-safe.
  void offer(std::vector<ExtentPlace> places);

  // Stops, and calls `then` once no store is under way any more. Does not wait: until then READs
  // have to be answered. Thread-safe.
  void stop(std::function<void()> then);

 private:
  // What waits is in the block cache still when its turn comes.
  static constexpr std::size_t kMostWaiting = 16;

  void work(const std::stop_token& stop);
  void store(const ExtentPlace& place);
  // The next one; nothing when it is time to stop.
  [[nodiscard]] std::optional<std::vector<ExtentPlace>> next(const std::stop_token& stop);

  ExtentMapper& extents_;
  const StorePages store_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::vector<ExtentPlace>> waiting_ PYRAM_GUARDED_BY(mutex_);

  BackgroundThread thread_;  // Last: it ends before what it uses.
};

}  // namespace pyram
