// Walks an image's tree of directories.
#pragma once

#include <functional>
#include <string>

#include "fusefs/image/image.h"

namespace pyram {

struct TreeEntry {
  const std::string& path;  // In the image, without a slash in front: "bin/pypy3".
  const DirectoryEntry& entry;
  // A directory that was entered before. A corrupt image may have one in two places, or in itself;
  // it is entered once.
  bool is_repeated = false;
};

// Calls `visit` with everything in the image but its root, parents before what is in them, until it
// returns false. A directory whose path is longer than the kernel allows (PATH_MAX) is not entered:
// so a hostile image cannot have us make paths without end. Throws Error, as reading an image does.
void walk_tree(const Image& image, const std::function<bool(const TreeEntry&)>& visit);

}  // namespace pyram
