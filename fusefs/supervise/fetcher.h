// The process that fetches the rest of an image: pyram-image's (registry/fetcher.h).
#pragma once

#include "fusefs/image/partial_image.h"

namespace pyram {

// Starts it again where something is missing, nobody fetches, and the image is ours to fetch. It
// may have been killed, or the machine have been started anew. Throws Error.
void ensure_fetcher(const PartialImage& image);

}  // namespace pyram
