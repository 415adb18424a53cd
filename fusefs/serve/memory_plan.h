// How much memory a daemon takes for what only makes it faster.
#pragma once

#include <cstddef>

namespace pyram {

struct MemoryPlan {
  std::size_t cache_bytes = 0;  // Of decompressed blocks.
  bool is_short = false;        // Nothing is kept or read that might only perhaps be wanted.
};

// `cache_bytes`: what was asked for, which is cut to a sixteenth of the memory that is available.
[[nodiscard]] MemoryPlan plan_memory(std::size_t cache_bytes) noexcept;

}  // namespace pyram
