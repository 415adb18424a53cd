// The licences of what an image holds: their texts in the image, their names in the manifest.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "image-builder/sources/source.h"
#include "image-builder/tree/layout.h"

namespace pyram::builder {

// The short names in a Debian copyright file: of its "License:" lines, or, where it isn't in the
// machine-readable format, of the texts in common-licenses that it points to.
[[nodiscard]] std::vector<std::string> licences_of(const std::filesystem::path& copyright);

// Puts the licence of everything in the image into share/doc, unless a package brings its own
// beside its modules. Libraries that came from this machine become packages of `source`, as dpkg
// knows them. What has no text is said in `image.notes`. Before make_manifest().
void add_licences(SourceTree& source, ImageTree& image);

// The packages of which something is in the image.
[[nodiscard]] std::set<std::string> used_packages(const ImageTree& image);

// The files of the image that hold a package's licence; sorted.
[[nodiscard]] std::vector<std::string> licence_files(const ImageTree& image,
                                                     const std::string& package);

}  // namespace pyram::builder
