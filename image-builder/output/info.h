// `pyram-image info` and `pyram-image diff`: what an image holds, for a person or a program.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace pyram::builder {

// Text, or JSON: the manifest with what the file itself says under "image".
// Throws Error (kBadImage) for what is no image of ours.
[[nodiscard]] std::string describe_image(const std::filesystem::path& image, bool json);

// The lists in `text` (lines that are indented by four) with no line longer than `width`, which 0
// doesn't limit.
[[nodiscard]] std::string fit(const std::string& text, std::size_t width);

// What differs from one image to another: packages and files, with sizes. Empty when nothing does.
[[nodiscard]] std::string compare_images(const std::filesystem::path& old_image,
                                         const std::filesystem::path& new_image);

// The same of manifests that were parsed already (manifest.h) and that have got the "image" of
// describe_image: nothing else in them is trusted. Throw Error (kBadImage).
struct DescribedImage {
  std::string name;
  nlohmann::json manifest;
};
[[nodiscard]] std::string describe_manifest(const std::string& image,
                                            const nlohmann::json& manifest, bool json);
[[nodiscard]] std::string compare_manifests(const DescribedImage& old_image,
                                            const DescribedImage& new_image);

}  // namespace pyram::builder
