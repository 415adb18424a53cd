// How often a part of a block was read that has more.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "fusefs/image/types.h"

namespace pyram {

// Remembers by a hash of the block: one may be mistaken for another, which costs a store too many.
// Thread-safe, without locks.
class PartReads {
 public:
  // A part of the block is read. Returns how many were before, 255 being followed by 0.
  unsigned note(const Block& block) noexcept {
    // Blocks begin at any byte: the multiplication spreads all bits over the ones that are taken.
    const std::uint64_t hash = block.position * 0x9e3779b97f4a7c15U;
    return counts_[hash >> (64 - kBits)].fetch_add(1, std::memory_order_relaxed);
  }

 private:
  static constexpr unsigned kBits = 12;
  std::array<std::atomic<std::uint8_t>, std::size_t{1} << kBits> counts_{};
};

}  // namespace pyram
