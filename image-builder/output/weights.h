// What each part of a finished image weighs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pyram::builder {

struct Weight {
  std::string part;          // For a person, such as "bytecode".
  std::uint64_t files = 0;   // Regular files.
  std::uint64_t bytes = 0;   // As programs see them.
  std::uint64_t stored = 0;  // In the image, compressed.
};

// Heaviest first. A block that files share counts by how much of it is each one's, one that is
// several files' content counts once. The sum of `stored` is the file's size.
// Throws Error (kBadImage).
[[nodiscard]] std::vector<Weight> weigh(const std::filesystem::path& image);

}  // namespace pyram::builder
