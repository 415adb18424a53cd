// Which compressors this build can read.
#pragma once

#include "fusefs/image/decompress.h"
#include "fusefs/image/superblock.h"

namespace pyram {

// nullptr where the libsquashfuse that we are linked with was built without it.
[[nodiscard]] Decompress find_decompressor(Compression compression);

}  // namespace pyram
