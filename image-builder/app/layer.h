// The lower layer of an app: an image with PyPy and packages, kept from one build to the next.
#pragma once

#include <filesystem>
#include <string>

#include "image-builder/build.h"

namespace pyram::builder {

// Where a layer keeps its metadata: an app has its own in the usual place.
inline constexpr char kLayerMetadata[] = ".pyram-layer";

// What decides what a layer holds, as hexadecimal digits: this program, the source, the packages
// asked for and the files that name them. Versions that a package index chooses are not in it.
[[nodiscard]] std::string layer_key(const BuildOptions& options);

}  // namespace pyram::builder
