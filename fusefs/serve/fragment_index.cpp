#include "fusefs/serve/fragment_index.h"

#include <utility>

namespace pyram {

void FragmentIndex::note(InodeRef file, const Attributes& attributes) {
  if (attributes.fragment == kNoFragment) return;
  const Lock lock(mutex_);
  if (files_ == kMostFiles) {
    fragments_.clear();
    files_ = 0;
  }
  const std::uint64_t offset = attributes.size / block_size_ * block_size_;
  fragments_[attributes.fragment].tails.push_back({file, offset});
  ++files_;
}

std::vector<ExtentPlace> FragmentIndex::note_read(std::uint32_t fragment) {
  const Lock lock(mutex_);
  const auto found = fragments_.find(fragment);
  if (found == fragments_.end() || ++found->second.reads < kReads) return {};
  std::vector<ExtentPlace> tails = std::move(found->second.tails);
  files_ -= tails.size();
  fragments_.erase(found);
  return tails;
}

void FragmentIndex::clear() {
  const Lock lock(mutex_);
  fragments_.clear();
  files_ = 0;
}

}  // namespace pyram
