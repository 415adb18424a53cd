#include "fusefs/image/extent.h"

#include <algorithm>
#include <string>

#include "fusefs/image/metadata.h"

namespace pyram {

bool covers(const FileMap& map, std::uint64_t offset) {
  const std::uint64_t block = offset / map.block_size;
  // The fragment comes behind the last block and is part of every stretch.
  return block >= map.block_count || block - map.first < map.blocks.size();
}

Extent extent_at(const FileMap& map, std::uint64_t offset) {
  if (offset >= map.file_size) return {};
  const std::uint64_t index = offset / map.block_size;
  Extent extent;
  extent.file_offset = index * map.block_size;
  extent.length = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(map.block_size, map.file_size - extent.file_offset));
  if (index < map.block_count) {
    extent.block = map.blocks[index - map.first];
  } else {
    extent.block = map.fragment;
    extent.offset_in_block = map.fragment_offset;
    extent.fragment = map.fragment_number;
  }
  return extent;
}

std::span<const std::byte> bytes_of(const Extent& extent, std::span<const std::byte> block) {
  const std::size_t end = std::size_t{extent.offset_in_block} + extent.length;
  if (extent.is_whole_block() ? block.size() != end : block.size() < end) {
    throw_corrupt("the block at byte " + std::to_string(extent.block.position) +
                  " has a false length");
  }
  return block.subspan(extent.offset_in_block, extent.length);
}

}  // namespace pyram
