#include "fusefs/image/block_list_index.h"

#include <algorithm>

namespace pyram {

BlockListIndex::File* BlockListIndex::known(InodeRef file) {
  const auto found = std::ranges::find(recent_, file, &File::inode);
  if (found == recent_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found);
  return &recent_.front();
}

std::optional<BlockListIndex::Found> BlockListIndex::find(InodeRef inode, std::uint64_t stretch) {
  const Lock lock(mutex_);
  const File* const file = known(inode);
  if (file == nullptr) return std::nullopt;
  const std::uint64_t count = std::min(stretch / file->distance, file->places.size());
  if (count == 0) return std::nullopt;
  return Found{count * file->distance, file->places[count - 1]};
}

void BlockListIndex::add(InodeRef inode, std::uint64_t stretch, const Place& place) {
  const Lock lock(mutex_);
  File* file = known(inode);
  if (file == nullptr) {
    recent_.push_front({.inode = inode, .places = {}});
    if (recent_.size() > kFiles) recent_.pop_back();
    file = &recent_.front();
  }
  if (stretch != (file->places.size() + 1) * file->distance) return;
  file->places.push_back(place);
  if (file->places.size() < kPlaces) return;
  // Every second one is left, twice as far apart.
  for (std::size_t i = 0; i < kPlaces / 2; ++i) file->places[i] = file->places[2 * i + 1];
  file->places.resize(kPlaces / 2);
  file->distance *= 2;
}

void BlockListIndex::clear() {
  const Lock lock(mutex_);
  recent_.clear();
}

}  // namespace pyram
