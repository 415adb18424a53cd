// The image that lies behind a bundle's own program.
#pragma once

#include <cstdint>
#include <string>

namespace pyram::bundle {

// Where the image of the bundle `file` begins. An ELF file says itself where it ends: the table of
// its sections is the last thing in it. Throws Error (kBadImage) where no image follows.
[[nodiscard]] std::uint64_t image_offset(const std::string& file);

}  // namespace pyram::bundle
