#include "fusefs/image/tree_walk.h"

#include <sys/stat.h>

#include <climits>
#include <deque>
#include <set>
#include <utility>

namespace pyram {

void walk_tree(const Image& image, const std::function<bool(const TreeEntry&)>& visit) {
  std::deque<std::pair<InodeRef, std::string>> directories = {{image.root(), ""}};
  std::set<InodeRef> entered = {image.root()};
  while (!directories.empty()) {
    const auto [directory, prefix] = std::move(directories.front());
    directories.pop_front();
    ListingCursor listing = image.open_listing(directory);
    while (const auto entry = Image::next_entry(listing)) {
      const std::string path = prefix + entry->name;
      const bool is_repeated = S_ISDIR(entry->type) && entered.contains(entry->inode);
      if (!visit({path, *entry, is_repeated})) return;
      if (!S_ISDIR(entry->type) || is_repeated || path.size() >= PATH_MAX) continue;
      entered.insert(entry->inode);
      directories.emplace_back(entry->inode, path + '/');
    }
  }
}

}  // namespace pyram
