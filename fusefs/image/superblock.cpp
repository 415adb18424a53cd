#include "fusefs/image/superblock.h"

#include <bit>
#include <string>

#include "fusefs/image/bytes.h"
#include "support/error.h"

namespace pyram {
namespace {

constexpr std::uint32_t kMagic = 0x73717368;  // "hsqs" in the file.

// The index of a table (8 bytes for each metadata block of it) has to lie inside the image.
bool index_fits(const Superblock& super, std::uint64_t table, std::uint64_t entries,
                std::uint64_t entry_size) {
  if (table >= super.bytes_used) return false;
  const std::uint64_t blocks =
      (entries * entry_size + Superblock::kMetadataBlockSize - 1) / Superblock::kMetadataBlockSize;
  return blocks * 8 <= super.bytes_used - table;
}

// What is wrong with the fields, or nullptr.
const char* find_fault(const Superblock& super, std::uint16_t block_log) {
  if (!std::has_single_bit(super.block_size) || super.block_size < 4096 ||
      super.block_size > 1048576 || std::countr_zero(super.block_size) != block_log) {
    return "its block size makes no sense";
  }
  if (super.bytes_used < Superblock::kSize) return "its length makes no sense";
  if (super.inode_count == 0 || super.id_count == 0) return "it has no inodes or no owners";
  if (super.inode_table < Superblock::kSize || super.inode_table >= super.directory_table ||
      super.directory_table > super.bytes_used) {
    return "its tables lie outside of it";
  }
  if (super.root_inode >> 16 >= super.directory_table - super.inode_table ||
      (super.root_inode & 0xffff) >= Superblock::kMetadataBlockSize) {
    return "its root directory lies outside of it";
  }
  if (!index_fits(super, super.id_table, super.id_count, 4)) return "its table of owners is cut";
  if (super.fragment_count != 0 &&
      (super.fragment_table == Superblock::kNoTable ||
       !index_fits(super, super.fragment_table, super.fragment_count, 16))) {
    return "its fragment table is cut";
  }
  if (super.export_table != Superblock::kNoTable &&
      !index_fits(super, super.export_table, super.inode_count, 8)) {
    return "its inode index is cut";
  }
  if (super.xattr_table != Superblock::kNoTable &&
      (super.xattr_table >= super.bytes_used || super.bytes_used - super.xattr_table < 16)) {
    return "its attribute table is cut";
  }
  return nullptr;
}

}  // namespace

std::string_view compression_name(Compression compression) {
  constexpr std::array<std::string_view, 7> kNames = {"unknown", "gzip", "lzma", "lzo",
                                                      "xz",      "lz4",  "zstd"};
  const auto index = static_cast<std::size_t>(compression);
  return index < kNames.size() ? kNames[index] : kNames[0];
}

Superblock parse_superblock(std::span<const std::byte> bytes, std::uint64_t available,
                            std::string_view name) {
  const auto bad = [&](std::string_view why) {
    return Error(ExitCode::kBadImage,
                 "cannot use " + std::string(name) + " as an image: " + std::string(why));
  };
  const auto u16 = [&](std::size_t offset) { return load_le<std::uint16_t>(bytes, offset); };
  const auto u32 = [&](std::size_t offset) { return load_le<std::uint32_t>(bytes, offset); };
  const auto u64 = [&](std::size_t offset) { return load_le<std::uint64_t>(bytes, offset); };
  if (bytes.size() < 4 || u32(0) != kMagic) {
    throw bad("it is not a SquashFS; give a file that pyram-image or mksquashfs made");
  }
  if (bytes.size() < Superblock::kSize) throw bad("it is truncated; copy or build it again");
  if (u16(28) != 4 || u16(30) != 0) {
    throw bad("it is SquashFS " + std::to_string(u16(28)) + "." + std::to_string(u16(30)) +
              "; only 4.0 is supported");
  }
  Superblock super;
  super.inode_count = u32(4);
  super.creation_time = u32(8);
  super.block_size = u32(12);
  super.fragment_count = u32(16);
  super.compression = static_cast<Compression>(u16(20));
  super.flags = u16(24);
  super.id_count = u16(26);
  super.root_inode = u64(32);
  super.bytes_used = u64(40);
  super.id_table = u64(48);
  super.xattr_table = u64(56);
  super.inode_table = u64(64);
  super.directory_table = u64(72);
  super.fragment_table = u64(80);
  super.export_table = u64(88);
  if (super.bytes_used > available) {
    throw bad("it is truncated: " + std::to_string(available) + " of " +
              std::to_string(super.bytes_used) + " bytes are there; copy or build it again");
  }
  if (const char* fault = find_fault(super, u16(22))) {
    throw bad(std::string("it is corrupt: ") + fault + "; copy or build it again");
  }
  return super;
}

}  // namespace pyram
