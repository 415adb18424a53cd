#include "fusefs/serve/extent_mapper.h"

#include <algorithm>

namespace pyram {
std::shared_ptr<const FileMap> ExtentMapper::map_of(InodeRef file, std::uint64_t offset) {
  {
    const Lock lock(mutex_);
    const auto found = std::ranges::find_if(recent_, [&](const Entry& entry) {
      return entry.file == file && covers(*entry.map, offset);
    });
    if (found != recent_.end()) {
      recent_.splice(recent_.begin(), recent_, found);
      return found->map;
    }
  }
  auto map = std::make_shared<const FileMap>(
      image_.file_map(file, offset / image_.superblock().block_size));
  const Lock lock(mutex_);
  recent_.push_front({file, map});
  if (recent_.size() > kMaps) recent_.pop_back();
  return map;
}

void ExtentMapper::forget_maps() {
  const Lock lock(mutex_);
  recent_.clear();
}

Extent ExtentMapper::extent_at(InodeRef file, std::uint64_t offset) {
  return pyram::extent_at(*map_of(file, offset), offset);
}

BlockCache::Pin ExtentMapper::pin(const Extent& extent) {
  BlockCache::Pin pin = cache_.get(extent.block);
  static_cast<void>(bytes_of(extent, pin.bytes()));
  return pin;
}

}  // namespace pyram
