// Comparing what two directories hold, down to the last byte.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace pyram::test {

struct Comparison {
  std::size_t entries = 0;               // In the first directory.
  std::vector<std::string> differences;  // One line each; empty when the trees are the same.
};

// Compares names, kinds, modes, owners, sizes, times of modification, link counts, link targets,
// device numbers and the bytes of every file. Two names of one file in one tree have to be two
// names of one file in the other.
[[nodiscard]] Comparison compare_trees(const std::filesystem::path& expected,
                                       const std::filesystem::path& found);

}  // namespace pyram::test
