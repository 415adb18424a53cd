// What an image's unpacked tree consists of, and the parts of it that have no content.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fusefs/image/image.h"
#include "support/error.h"
#include "support/unique_fd.h"

namespace pyram {

// All paths are relative to the tree's root.
struct PlannedFile {
  std::string path;
  InodeRef inode;
  Attributes attributes;
};
struct PlannedDirectory {
  std::string path;
  Attributes attributes;
};
struct PlannedHardLink {
  std::string existing;
  std::string added;
};

// What is to be in a tree. Movable; threads that write files share it.
struct Plan {
  std::filesystem::path root;
  UniqueFd root_fd;
  std::vector<PlannedFile> files;             // In the image's order.
  std::vector<PlannedDirectory> directories;  // Parents before children.
  std::vector<PlannedHardLink> hard_links;
  std::uint64_t bytes = 0;  // In whole pages, as tmpfs counts.

  // "cannot WHAT 'PATH'", with errno's text. `path` is relative, or empty for the root.
  [[nodiscard]] Error cannot(const char* what, const std::string& path) const;
};

// Makes the new directory `root` with the image's directories and symbolic links in it, and lists
// the rest. Devices, pipes and sockets are left out. A name that occurs twice is an error of mkdir,
// symlink or open (O_EXCL): so nothing is ever written through a link of the image's own. Throws
// Error: kBadImage, kVerification, kCannotWrite. REQUIRES: no umask.
[[nodiscard]] Plan plan_tree(const Image& image, const std::filesystem::path& root);

// Makes the hard links, and gives directories their times. REQUIRES: the files are there. Throws
// Error (kCannotWrite).
void finish_tree(const Plan& plan);

// The same error, with the path in the image where something is wrong with the image.
[[nodiscard]] Error of_file(const Error& error, const std::string& path);

// The file's time, twice, as utimensat() takes it.
struct Times {
  explicit Times(const Attributes& attributes);
  timespec values[2];
};

}  // namespace pyram
