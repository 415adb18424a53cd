// What the writer of a bundle (image-builder/output/bundle.h) and the bundle itself agree on.
#pragma once

#include <cstdint>

namespace pyram {

// Where an image may begin in a bundle: at a whole page.
inline constexpr std::uint64_t kBundleAlignment = 4096;

// The directory of the image that holds the application.
inline constexpr char kBundleApplication[] = "app";

// The bundle's first argument when it is to be the daemon.
inline constexpr char kBundleDaemon[] = "--pyram-bundle-mount";

}  // namespace pyram
