#include "fusefs/serve/memory_plan.h"

#include <algorithm>
#include <cstdint>

#include "support/memory_groups.h"

namespace pyram {

MemoryPlan plan_memory(std::size_t cache_bytes) noexcept {
  // A server of 256 MiB with a script or two has so much left.
  constexpr std::uint64_t kShort = std::uint64_t{128} << 20;
  constexpr std::uint64_t kCacheShare = 16;
  const std::uint64_t available = available_memory();
  return {.cache_bytes = std::min<std::uint64_t>(cache_bytes, available / kCacheShare),
          .is_short = available < kShort};
}

}  // namespace pyram
