// Which parts of an image a start reads.
#pragma once

#include <cstdint>
#include <vector>

#include "registry/lazy_image.h"

namespace pyram::registry {

// Chunks in the order of their first uses, each once.
struct FetchPlan {
  std::vector<std::uint32_t> hot;    // What every start reads: metadata, and the hot list's ranges.
  std::vector<std::uint32_t> later;  // What the hot list's other groups have.
};

// Reads the image, as far as it has come, and waits for what it needs of it. Throws Error.
[[nodiscard]] FetchPlan plan_fetch(const LazyImage& image);

}  // namespace pyram::registry
