// One executable that is launcher, daemon and image at once.
//
// A bundle is the program pyram-bundle (static, packaging/bundle/), zeros up to the next multiple
// of kBundleAlignment, and an image as it is. The program finds the image behind its own end, and
// the kernel could mount it from there. An application is a directory `app` in the image's root.
#pragma once

#include <filesystem>

namespace pyram::builder {

struct BundleOptions {
  std::filesystem::path image;
  std::filesystem::path output;
  std::filesystem::path application;  // A script, or a directory with a __main__.py; may be empty.
};

// Writes the bundle, whole or not at all. Returns the program's exit code; what goes wrong is an
// Error: kBadImage, kBadSource (the application), kMissingTool (pyram-bundle, mksquashfs),
// kCannotWrite.
[[nodiscard]] int bundle_image(const BundleOptions& options);

}  // namespace pyram::builder
