// What each part of a finished image weighs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fusefs/image/image.h"

namespace pyram::builder {

struct Weight {
  std::string part;          // For a person, such as "bytecode".
  std::uint64_t files = 0;   // Regular files.
  std::uint64_t bytes = 0;   // As programs see them.
  std::uint64_t stored = 0;  // In the image, compressed.
};

// Heaviest first. A block that files share counts by each file's part of it; one that is the
// content of several files counts once. The sum of `stored` is `file_size`, the size of the image's
// file. Throws Error (kBadImage).
[[nodiscard]] std::vector<Weight> weigh(const Image& image, std::uint64_t file_size);

}  // namespace pyram::builder
