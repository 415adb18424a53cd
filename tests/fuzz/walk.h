// Looks at everything in an image, as the daemon would if somebody read all of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "support/unique_fd.h"

namespace pyram::test {

struct Walked {
  std::uint64_t inodes = 0;
  std::uint64_t bytes = 0;   // Of files.
  std::uint64_t errors = 0;  // Found by the reader, as they have to be.
};

// Opens the image in `file` and goes through it: directories, attributes, links, every file's bytes
// by way of the block cache, the hot list. Ends after a bounded number of steps, whatever the image
// says. What is wrong with it is an Error, which is counted: nothing else may be thrown.
[[nodiscard]] Walked walk_image(UniqueFd file);

// A file in memory with these bytes.
[[nodiscard]] UniqueFd file_of(std::span<const std::byte> bytes);

// The parser of the hot list: what it takes can be written and read again.
void check_hot_list(std::span<const std::byte> text);

// As the trailer of an image: two bytes say how long the SquashFS is that the rest begins with.
// Aborts where a changed byte passes for one that was not.
void check_trailer(std::span<const std::byte> input);

}  // namespace pyram::test
