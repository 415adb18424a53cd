// `pyram-image list`: the images that can be named, and those that were pulled.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace pyram::builder {

struct NamedImage {
  std::string name;  // Or the reference by which it was pulled.
  std::filesystem::path file;
  bool hidden = false;  // One of the same name comes before it.
};

// All images in the image directories, by name; of one name, the one that is taken first.
[[nodiscard]] std::vector<NamedImage> named_images();

// For a person: a line each; or JSON.
[[nodiscard]] std::string list_images(bool json);

// The mount points of this file, as the kernel lists them.
[[nodiscard]] std::vector<std::filesystem::path> mounts_of(const std::filesystem::path& image);

}  // namespace pyram::builder
