// All that an image holds, as the reading library gives it.
#pragma once

#include <filesystem>
#include <string>

#include "fusefs/image/image.h"
#include "fusefs/serve/extent_mapper.h"

namespace pyram::test {

// Names, attributes, links, extended attributes and the bytes of every file, in one text that
// differs where any of them does. Throws what the library throws.
[[nodiscard]] std::string contents_of(const Image& image);
// The same, with the files' bytes read by `reader`.
[[nodiscard]] std::string contents_of(const Image& image, ExtentMapper& reader);

// A small image with something of everything that an image can hold, none of it compressed: a
// changed byte is then not found out by a decompressor. Made in `directory`, which holds its tree
// afterwards, and sealed by pyram-image with a Merkle tree.
[[nodiscard]] std::filesystem::path make_sealed_image(const std::filesystem::path& directory);

// Puts a Merkle tree behind an image.
void append_merkle_tree(const std::filesystem::path& image);

}  // namespace pyram::test
