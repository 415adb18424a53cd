// Which bytes a file has: the one place that decides it, for a mount, for an extraction and for
// whatever else reads a file of an image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fusefs/image/types.h"

namespace pyram {

// The part of a file that lies in one block. Empty at the file's end.
struct Extent {
  Block block;
  std::uint64_t file_offset = 0;      // Of its first byte, in the file.
  std::uint32_t offset_in_block = 0;  // Of its first byte, in the decompressed block.
  std::uint32_t length = 0;
  std::uint32_t fragment = kNoFragment;  // The fragment block's number where other files share it.

  // The block has nothing beside it: it has to be `length` bytes.
  [[nodiscard]] bool is_whole_block() const { return fragment == kNoFragment; }
};

// Whether the map has the block that the byte at `offset` is in.
[[nodiscard]] bool covers(const FileMap& map, std::uint64_t offset);

// The extent that the byte at `offset` is in. REQUIRES: covers(map, offset).
[[nodiscard]] Extent extent_at(const FileMap& map, std::uint64_t offset);

// The extent's bytes in its decompressed block. REQUIRES: the block is no hole. Throws Error
// (kBadImage, EIO) where the block has another length than it must have: missing bytes are never
// replaced by others.
[[nodiscard]] std::span<const std::byte> bytes_of(const Extent& extent,
                                                  std::span<const std::byte> block);

}  // namespace pyram
