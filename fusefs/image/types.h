// What the image reader speaks of: inodes, directory entries, blocks and where a file's bytes lie.
// Plain values without any behaviour that could fail.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace pyram {

// Where an inode lies: (position of its metadata block in the inode table) << 16 | offset in it.
// 48 bits. Names an inode for as long as the image exists, so nothing about it has to be
// remembered.
struct InodeRef {
  std::uint64_t value = 0;
  // What the compiler makes of it compares with a 0, which is no pointer.
  // NOLINTNEXTLINE(modernize-use-nullptr)
  friend auto operator<=>(const InodeRef&, const InodeRef&) = default;
};

// A number of a fragment block: none.
inline constexpr std::uint32_t kNoFragment = 0xffffffff;

struct Attributes {
  mode_t mode = 0;  // With the file type.
  std::uint32_t inode_number = 0;
  std::uint32_t nlink = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::uint32_t mtime = 0;               // Seconds since 1970.
  std::uint64_t size = 0;                // Of a file its bytes, of a link its target's length.
  std::uint64_t data_bytes = 0;          // Of a file its bytes without its holes, else 0.
  dev_t device = 0;                      // Of a device node.
  std::uint32_t fragment = kNoFragment;  // The block that a file's tail shares with others.
};

struct DirectoryEntry {
  std::string name;
  InodeRef inode;
  std::uint32_t inode_number = 0;
  mode_t type = 0;                // S_IFREG, S_IFDIR, ...
  std::uint64_t next_offset = 0;  // Where a listing goes on behind this entry.
};

// A block of file data as it lies in the image.
struct Block {
  std::uint64_t position = 0;     // In bytes from the image's start.
  std::uint32_t stored_size = 0;  // Bytes in the image; 0 for a hole, whose bytes are all zero.
  bool compressed = false;
  [[nodiscard]] bool is_hole() const { return stored_size == 0; }
};

// A stretch of a file's blocks. Blocks are `block_size` bytes each once decompressed, but for a
// file's last, which is shorter; a file's tail may lie in a fragment block, shared with other
// files.
struct FileMap {
  std::uint64_t file_size = 0;
  std::uint32_t block_size = 0;
  std::uint64_t block_count = 0;  // Of the whole file, without the fragment.
  std::uint64_t first = 0;        // Index of blocks[0].
  std::vector<Block> blocks;
  std::uint32_t fragment_number = kNoFragment;
  Block fragment;
  std::uint32_t fragment_offset = 0;  // Of the tail in the decompressed fragment block.
  [[nodiscard]] bool has_fragment() const { return fragment_number != kNoFragment; }
};

}  // namespace pyram
