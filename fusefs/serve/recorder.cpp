#include "fusefs/serve/recorder.h"

#include <algorithm>
#include <iterator>

#include "support/io.h"

namespace pyram {

void Recorder::note_name(InodeRef directory, const std::string& name, InodeRef inode) {
  const Lock lock(mutex_);
  names_.try_emplace(inode, Name{directory, name});
}

void Recorder::note_read(InodeRef file, std::uint64_t offset, std::uint64_t length) {
  const Lock lock(mutex_);
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const std::uint64_t block = offset / block_size_;
    const std::uint64_t to = std::min(end, (block + 1) * block_size_);
    const auto [place, is_new] = part_of_block_.try_emplace({file, block}, parts_.size());
    if (is_new) parts_.push_back({file, {}});
    add(parts_[place->second], offset, to);
    offset = to;
  }
}

void Recorder::add(Part& part, std::uint64_t from, std::uint64_t to) {
  auto next = part.ranges.upper_bound(from);
  if (next != part.ranges.begin() && std::prev(next)->second >= from) {
    --next;
    from = next->first;
  }
  while (next != part.ranges.end() && next->first <= to) {
    to = std::max(to, next->second);
    next = part.ranges.erase(next);
  }
  part.ranges[from] = to;
}

std::string Recorder::path_of(InodeRef inode) const {
  std::string path;
  // No directory lies deeper than this in an image that is sound.
  for (int depth = 0; depth < 256; ++depth) {
    const auto found = names_.find(inode);
    if (found == names_.end()) return path;
    path = path.empty() ? found->second.name : found->second.name + "/" + path;
    inode = found->second.directory;
  }
  return {};
}

void Recorder::write() const {
  const Lock lock(mutex_);
  std::string text(kHotListHeader);
  for (const Part& part : parts_) {
    const std::string path = path_of(part.file);
    if (path.empty() || path.find('\n') != std::string::npos) continue;
    for (const auto& [from, to] : part.ranges) {
      text += format_hot_range({from, to - from, path});
    }
  }
  write_file(file_, text);
}

}  // namespace pyram
