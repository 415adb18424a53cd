// Puts the whole of a block into the kernel's page cache once it is worth it.
//
// Small reads here and there in a large file ask for a few pages of a block each. The first time
// the rest is not worth the memory; the second time it is, or every further read would be a
// request, and would have the block decompressed anew when it has left our cache. The same goes for
// the files that share a fragment block (fragment_index.h).
//
// It has a thread of its own: a store waits for the pages that a READ holds, and the threads that
// answer READs must never wait for one another.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "fusefs/serve/extent_mapper.h"

namespace pyram {

class BlockFiller {
 public:
  // Pins that it holds at once.
  static constexpr std::size_t kReaders = 1;

  // The reader has to outlive it, and what `store` uses.
  BlockFiller(ExtentMapper& reader, StorePages store);

  // These extents, which lie in one block, are to be stored, unless too much waits already. Cheap.
  // Thread-safe.
  void offer(std::vector<ExtentPlace> places);

  // Stops, and calls `then` once no store is under way any more. Does not wait: until then READs
  // have to be answered. Called once at most. Thread-safe.
  void stop(std::function<void()> then);

 private:
  // What waits is in the block cache still when its turn comes.
  static constexpr std::size_t kMostWaiting = 16;

  void work(const std::stop_token& stop);
  void store(const ExtentPlace& place);
  // The next one; nothing when it is time to stop.
  [[nodiscard]] std::optional<std::vector<ExtentPlace>> next(const std::stop_token& stop);

  ExtentMapper& reader_;
  const StorePages store_;
  std::mutex mutex_;  // Guards what follows.
  std::condition_variable_any changed_;
  std::deque<std::vector<ExtentPlace>> waiting_;
  bool finished_ = false;
  std::function<void()> when_finished_;

  std::jthread thread_;  // Last: it ends before what it uses.
};

}  // namespace pyram
