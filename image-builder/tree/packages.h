// Packages beside those of the source: `--with`, `--wheel` and `-r`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "image-builder/sources/source.h"
#include "image-builder/tree/layout.h"

namespace pyram::builder {

struct PackageRequest {
  std::vector<std::string> names;  // As pip takes them, or "debian:NAME".
  std::vector<std::filesystem::path> wheels;
  std::vector<std::filesystem::path> requirements;
  std::vector<std::filesystem::path> projects;  // pyproject.toml files, for their dependencies.
  std::string index_url;
  bool no_index = false;
  std::vector<std::string> find_links;  // Directories, files or URLs.
};

// The NAMEs of what is written as "debian:NAME".
[[nodiscard]] std::vector<std::string> debian_packages(const PackageRequest& request);

// Whether there is something for pip.
[[nodiscard]] bool wants_pip(const PackageRequest& request);

// Has the image's own pip install what was asked for, with what that needs and the image lacks. The
// packages are added to `source`, their files' owners to `image`. A package of the source that is
// another version of one that was asked for goes.
// REQUIRES: the image is complete(). Throws Error: kBadSource for what cannot be had, isn't for
// this interpreter, lacks something, or brings a file that is there already; kVerification for a
// hash that differs.
void install_packages(const PackageRequest& request, SourceTree& source, ImageTree& image,
                      const std::filesystem::path& work);

// Adds a note for each wheel with an extension module that this interpreter cannot load, such as
// one that needs a newer PyPy: pip knows nothing of that. REQUIRES: the image has all its
// libraries.
void check_extensions(const SourceTree& source, ImageTree& image,
                      const std::filesystem::path& work);

}  // namespace pyram::builder
