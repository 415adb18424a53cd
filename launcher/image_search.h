// Which image file to run from.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/executable.h"

namespace pyram::launcher {

struct ChosenImage {
  std::string path;  // Canonical: absolute, no links.
  std::string stem;  // For a mount point's name: plain characters, at most 64 of them.
  std::string key;   // support/image_key.h
  struct stat status {};
  std::uint64_t offset = 0;  // Where the image begins in the file, in bytes.

  // Unpacked for good (pyram-mount --extract), as in a container: there is nothing to mount.
  [[nodiscard]] bool is_directory() const { return S_ISDIR(status.st_mode); }
};

// `wanted` is a file or an unpacked image's directory when it has a slash in it or ends in .sqfs,
// or else the reference of a pulled image (support/image_reference.h). Without a slash it is a
// name, looked up in image_directories() (support/image_names.h) as NAME.sqfs and then as the
// directory NAME. Nothing wanted: the name "default", and for a pyram that lies in build/PRESET/bin
// first build/images/default.sqfs. Throws Error when there is no such image; of names it lists
// those that exist.
[[nodiscard]] ChosenImage find_image(const std::optional<std::string_view>& wanted,
                                     const Executable& self);

}  // namespace pyram::launcher
