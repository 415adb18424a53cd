#include "fusefs/serve/whole_image.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <utility>

#include "fusefs/image/tree_walk.h"

namespace pyram {

std::vector<HotGroup> whole_image(const Image& image, const std::stop_token& stop) {
  struct File {
    std::uint64_t position;
    HotRange range;
  };
  std::vector<File> files;
  std::set<InodeRef> known;  // A file with several names is fetched once.
  walk_tree(image, [&](const TreeEntry& found) {
    if (stop.stop_requested()) return false;
    if (!S_ISREG(found.entry.type) || !known.insert(found.entry.inode).second) return true;
    const FileMap map = image.file_map(found.entry.inode, 0);
    const Block& first = map.blocks.empty() ? map.fragment : map.blocks.front();
    files.push_back({first.position, {0, map.file_size, found.path}});
    return true;
  });
  if (stop.stop_requested()) return {};
  std::ranges::sort(files, {}, &File::position);
  std::vector<HotGroup> groups(1);
  for (File& file : files) groups[0].ranges.push_back(std::move(file.range));
  return groups;
}

}  // namespace pyram
