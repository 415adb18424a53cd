// Writes the content of an image's files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fusefs/image/extent.h"
#include "fusefs/image/image.h"
#include "fusefs/unpack/plan.h"
#include "support/unique_fd.h"

namespace pyram {

// A new file of the right size and permissions, all holes, open for reading and writing. Throws
// Error (kCannotWrite). REQUIRES: no umask.
[[nodiscard]] UniqueFd create_file(const Plan& plan, const PlannedFile& file);

// Holds two decompressed blocks. Not thread-safe: one for each thread. Image and plan have to
// outlive it.
class FileWriter {
 public:
  FileWriter(const Image& image, const Plan& plan);

  // Writes the bytes of `file` from `begin` (at a block's begin) to `end`, and then sets its time.
  // Holes stay holes. Throws Error: kBadImage, kVerification, kCannotWrite.
  void write(int fd, const PlannedFile& file, std::uint64_t begin, std::uint64_t end);

  // Creates and writes a file.
  void write_whole(const PlannedFile& file);

 private:
  void write_content(int fd, const PlannedFile& file, std::uint64_t begin, std::uint64_t end);
  [[nodiscard]] std::span<const std::byte> block_of(const Extent& extent);

  const Image& image_;
  const Plan& plan_;
  std::vector<std::byte> block_;
  std::vector<std::byte> fragment_;
  std::optional<std::uint64_t> fragment_position_;
  std::size_t fragment_length_ = 0;
};

}  // namespace pyram
