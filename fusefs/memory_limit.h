// How much memory there is to be had.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyram {

// Bytes that can be taken without swapping: what the kernel says of the machine (MemAvailable in
// /proc/meminfo), or less where a control group of ours (version 1 or 2, at any level above) has a
// limit. Cached file pages count as free. Never throws: what can't be read doesn't limit.
[[nodiscard]] std::uint64_t available_memory() noexcept;

// What a daemon makes of that.
struct MemoryPlan {
  std::size_t cache_bytes = 0;  // Of decompressed blocks.
  bool is_short = false;        // Nothing is kept or read that might only perhaps be wanted.
};

// `cache_bytes`: what was asked for, which is cut to a sixteenth of what there is.
[[nodiscard]] MemoryPlan plan_memory(std::size_t cache_bytes) noexcept;

}  // namespace pyram
