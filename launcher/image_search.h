// Which image file to run from.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/executable.h"

namespace pyram::launcher {

struct ChosenImage {
  std::string path;  // Canonical: absolute, no links.
  std::string stem;  // For a mount point's name: plain characters, at most 64 of them.
  std::string key;   // support/image_key.h
  struct stat status {};
  std::uint64_t offset = 0;  // Where the image begins in the file, in bytes.
};

// The directories in which an image given by name is looked for, first one first.
[[nodiscard]] std::vector<std::string> image_directories(const Executable& self);

// `wanted` is a file when it has a slash in it or ends in .sqfs, or else the reference of a pulled
// image (support/image_reference.h). Without a slash it is a name, looked up in
// image_directories() as NAME.sqfs. Nothing wanted: the name "default", and for a pyram that lies
// in build/PRESET/bin first build/images/default.sqfs. Throws Error when there is no such image; of
// names it lists those that exist.
[[nodiscard]] ChosenImage find_image(const std::optional<std::string_view>& wanted,
                                     const Executable& self);

}  // namespace pyram::launcher
