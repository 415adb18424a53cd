// What is fetched when everything is wanted (--prefetch all).
//
// Apart from prefetcher.h, as the usual start does not read this of the program.
#pragma once

#include <stop_token>
#include <vector>

#include "fusefs/image/hot_list.h"
#include "fusefs/image/image.h"

namespace pyram {

// Every file of the image in the order in which the data lies there. Nothing once it is told to
// stop. Throws Error, as reading an image does.
[[nodiscard]] std::vector<HotGroup> whole_image(const Image& image, const std::stop_token& stop);

}  // namespace pyram
