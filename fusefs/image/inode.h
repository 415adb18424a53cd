// One inode as the image stores it.
#pragma once

#include "fusefs/image/metadata.h"
#include "fusefs/image/types.h"

namespace pyram {

struct Inode {
  static constexpr std::uint32_t kNone = 0xffffffff;  // No attributes.

  Attributes attributes{};       // uid and gid are still indices into the table of owners.
  std::uint32_t xattrs = kNone;  // Index into the attribute table.

  // Of a file:
  std::uint64_t first_block = 0;  // Where its data starts in the image.
  std::uint32_t fragment_offset = 0;

  // Of a directory; its entries lie at these places of the directory table:
  std::uint32_t listing_block = 0;
  std::uint16_t listing_offset = 0;
  std::uint32_t listing_size = 0;  // Bytes of entries.
  std::uint16_t index_count = 0;   // Entries of the index that follows the inode.
  std::uint32_t parent_number = 0;

  // What follows the fixed part: a file's block list, a link's target, a directory's index.
  MetadataCursor rest;
};

// Reads the inode at `cursor`. Throws Error (kBadImage).
[[nodiscard]] Inode read_inode(MetadataCursor cursor);

// S_IFREG, S_IFDIR, ... of a type as directories and inodes give it (1 to 14); 0 for an unknown
// one.
[[nodiscard]] mode_t file_type(std::uint32_t type);

}  // namespace pyram
