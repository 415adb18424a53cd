#include "fusefs/image/inode.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>

#include "fusefs/image/bytes.h"

namespace pyram {
namespace {

// Types 1 to 7 are the short forms; the long forms have the same order.
constexpr std::uint32_t kTypes = 7;
constexpr std::uint32_t kHeaderSize = 16;

// The kernel's encoding of device numbers: 20 bits of minor around 12 bits of major.
dev_t decode_device(std::uint32_t device) {
  return makedev(device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xfff00));
}

void read_file(Inode& inode, bool is_extended) {
  if (is_extended) {
    const auto raw = inode.rest.read<40>();
    inode.first_block = load_le<std::uint64_t>(raw, 0);
    inode.attributes.size = load_le<std::uint64_t>(raw, 8);
    const auto holes = load_le<std::uint64_t>(raw, 16);
    inode.attributes.data_bytes = inode.attributes.size - std::min(holes, inode.attributes.size);
    inode.attributes.nlink = load_le<std::uint32_t>(raw, 24);
    inode.attributes.fragment = load_le<std::uint32_t>(raw, 28);
    inode.fragment_offset = load_le<std::uint32_t>(raw, 32);
    inode.xattrs = load_le<std::uint32_t>(raw, 36);
  } else {
    const auto raw = inode.rest.read<16>();
    inode.first_block = load_le<std::uint32_t>(raw, 0);
    inode.attributes.fragment = load_le<std::uint32_t>(raw, 4);
    inode.fragment_offset = load_le<std::uint32_t>(raw, 8);
    inode.attributes.size = load_le<std::uint32_t>(raw, 12);
    inode.attributes.data_bytes = inode.attributes.size;
    inode.attributes.nlink = 1;
  }
  // What Linux can have as a file's size.
  if (inode.attributes.size > std::uint64_t{1} << 62) throw_corrupt("a file is too large");
}

void read_directory(Inode& inode, bool is_extended) {
  std::uint32_t size = 0;
  if (is_extended) {
    const auto raw = inode.rest.read<24>();
    inode.attributes.nlink = load_le<std::uint32_t>(raw, 0);
    size = load_le<std::uint32_t>(raw, 4);
    inode.listing_block = load_le<std::uint32_t>(raw, 8);
    inode.parent_number = load_le<std::uint32_t>(raw, 12);
    inode.index_count = load_le<std::uint16_t>(raw, 16);
    inode.listing_offset = load_le<std::uint16_t>(raw, 18);
    inode.xattrs = load_le<std::uint32_t>(raw, 20);
  } else {
    const auto raw = inode.rest.read<16>();
    inode.listing_block = load_le<std::uint32_t>(raw, 0);
    inode.attributes.nlink = load_le<std::uint32_t>(raw, 4);
    size = load_le<std::uint16_t>(raw, 8);
    inode.listing_offset = load_le<std::uint16_t>(raw, 10);
    inode.parent_number = load_le<std::uint32_t>(raw, 12);
  }
  inode.attributes.size = size;
  // The stored size counts three bytes for "." and "..", which are not stored.
  inode.listing_size = size < 3 ? 0 : size - 3;
}

void read_link(Inode& inode, bool is_extended) {
  const auto raw = inode.rest.read<8>();
  inode.attributes.nlink = load_le<std::uint32_t>(raw, 0);
  inode.attributes.size = load_le<std::uint32_t>(raw, 4);
  constexpr std::uint64_t kLongestTarget = 65535;  // What mksquashfs and Linux take at most.
  if (inode.attributes.size > kLongestTarget) throw_corrupt("a symbolic link is too long");
  if (is_extended) {
    MetadataCursor behind = inode.rest;
    behind.skip(inode.attributes.size);
    inode.xattrs = load_le<std::uint32_t>(behind.read<4>(), 0);
  }
}

void read_device(Inode& inode, bool is_extended) {
  const auto raw = inode.rest.read<8>();
  inode.attributes.nlink = load_le<std::uint32_t>(raw, 0);
  inode.attributes.device = decode_device(load_le<std::uint32_t>(raw, 4));
  if (is_extended) inode.xattrs = load_le<std::uint32_t>(inode.rest.read<4>(), 0);
}

void read_pipe(Inode& inode, bool is_extended) {
  inode.attributes.nlink = load_le<std::uint32_t>(inode.rest.read<4>(), 0);
  if (is_extended) inode.xattrs = load_le<std::uint32_t>(inode.rest.read<4>(), 0);
}

}  // namespace

mode_t file_type(std::uint32_t type) {
  constexpr std::array<mode_t, kTypes> kModes = {S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK,
                                                 S_IFCHR, S_IFIFO, S_IFSOCK};
  if (type == 0 || type > 2 * kTypes) return 0;
  return kModes[(type - 1) % kTypes];
}

Inode read_inode(MetadataCursor cursor) {
  const auto header = cursor.read<kHeaderSize>();
  const std::uint32_t type = load_le<std::uint16_t>(header, 0);
  const mode_t format = file_type(type);
  if (format == 0) throw_corrupt("an inode has an unknown type");
  Inode inode{.rest = std::move(cursor)};
  inode.attributes.mode = format | (load_le<std::uint16_t>(header, 2) & 07777U);
  inode.attributes.uid = load_le<std::uint16_t>(header, 4);
  inode.attributes.gid = load_le<std::uint16_t>(header, 6);
  inode.attributes.mtime = load_le<std::uint32_t>(header, 8);
  inode.attributes.inode_number = load_le<std::uint32_t>(header, 12);
  const bool is_extended = type > kTypes;
  switch (format) {
    case S_IFREG:
      read_file(inode, is_extended);
      break;
    case S_IFDIR:
      read_directory(inode, is_extended);
      break;
    case S_IFLNK:
      read_link(inode, is_extended);
      break;
    case S_IFBLK:
    case S_IFCHR:
      read_device(inode, is_extended);
      break;
    default:
      read_pipe(inode, is_extended);
      break;
  }
  return inode;
}

}  // namespace pyram
