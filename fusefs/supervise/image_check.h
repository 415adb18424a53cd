// Whether an image can be served, found out before it is mounted.
#pragma once

#include "fusefs/image/image_file.h"
#include "fusefs/mount_options.h"

namespace pyram {

// Reads what a worker reads at its start: superblock, owners, the root, with --verify the Merkle
// tree. In a process of its own: the supervisor lives as long as the mount, and keeps no memory for
// it. Throws Error as Image does. REQUIRES: no other threads.
void check_image(const ImageFile& file, const Options& options);

}  // namespace pyram
