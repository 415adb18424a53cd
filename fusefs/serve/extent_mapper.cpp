#include "fusefs/serve/extent_mapper.h"

#include <algorithm>

namespace pyram {
namespace {

bool covers(const FileMap& map, std::uint64_t block) {
  // The fragment comes behind the last block and is part of every stretch.
  return block >= map.block_count || block - map.first < map.blocks.size();
}

}  // namespace

std::shared_ptr<const FileMap> ExtentMapper::map_of(InodeRef file, std::uint64_t offset) {
  const std::uint64_t block = offset / image_.superblock().block_size;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find_if(recent_, [&](const Entry& entry) {
      return entry.file == file && covers(*entry.map, block);
    });
    if (found != recent_.end()) {
      recent_.splice(recent_.begin(), recent_, found);
      return found->map;
    }
  }
  auto map = std::make_shared<const FileMap>(image_.file_map(file, block));
  const std::lock_guard lock(mutex_);
  recent_.push_front({file, map});
  if (recent_.size() > kMaps) recent_.pop_back();
  return map;
}

void ExtentMapper::forget_maps() {
  const std::lock_guard lock(mutex_);
  recent_.clear();
}

Extent ExtentMapper::extent_at(InodeRef file, std::uint64_t offset) {
  const std::shared_ptr<const FileMap> map = map_of(file, offset);
  if (offset >= map->file_size) return {};
  const std::uint64_t index = offset / map->block_size;
  Extent extent;
  extent.file_offset = index * map->block_size;
  extent.length = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(map->block_size, map->file_size - extent.file_offset));
  if (index < map->block_count) {
    extent.block = map->blocks[index - map->first];
  } else {
    extent.block = map->fragment;
    extent.offset_in_block = map->fragment_offset;
    extent.fragment = map->fragment_number;
  }
  return extent;
}

BlockCache::Pin ExtentMapper::pin(const Extent& extent) {
  BlockCache::Pin pin = cache_.get(extent.block);
  const std::size_t end = std::size_t{extent.offset_in_block} + extent.length;
  // A block that is too short would have to be filled up with bytes that nobody wrote.
  if (extent.is_whole_block() ? pin.bytes().size() != end : pin.bytes().size() < end) {
    throw_corrupt("the block at byte " + std::to_string(extent.block.position) +
                  " has a false length");
  }
  return pin;
}

}  // namespace pyram
