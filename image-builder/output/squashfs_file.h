// What the builder reads of a finished image, through unsquashfs and from the superblock itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace pyram::builder {

// The SquashFS superblock (version 4.0), as far as it is of use here. Format: "SquashFS Binary
// Format", https://dr-emann.github.io/squashfs/.
struct Superblock {
  std::uint32_t inodes = 0;
  std::int64_t time = 0;
  std::uint32_t block_size = 0;
  std::string compressor;
  std::uint64_t bytes_used = 0;  // The SquashFS's own bytes; the file may go on behind them.
};

// Throws Error (kBadImage) for what is no SquashFS, is truncated, or cannot be opened.
[[nodiscard]] Superblock read_superblock(const std::filesystem::path& image);

// The text of one file in the image. Throws Error (kBadImage) when it isn't there.
[[nodiscard]] std::string read_from_image(const std::filesystem::path& image,
                                          const std::string& path);

// Unpacks everything into a directory that must not exist. Throws Error (kBadImage).
void unpack_image(const std::filesystem::path& image, const std::filesystem::path& directory);

}  // namespace pyram::builder
