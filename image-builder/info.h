// `pyram-image info` and `pyram-image diff`: what an image holds, for a person or a program.
#pragma once

#include <filesystem>
#include <string>

namespace pyram::builder {

// Text, or JSON: the manifest with what the file itself says under "image".
// Throws Error (kBadImage) for what is no image of ours.
[[nodiscard]] std::string describe_image(const std::filesystem::path& image, bool json);

// What differs from one image to another: packages and files, with sizes. Empty when nothing does.
[[nodiscard]] std::string compare_images(const std::filesystem::path& old_image,
                                         const std::filesystem::path& new_image);

}  // namespace pyram::builder
