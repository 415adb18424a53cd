// The first 96 bytes of a SquashFS 4.0 image, checked.
//
// Read and checked by our own code before libsquashfuse sees the image, because that library takes
// sizes and positions on trust. Layout: Documentation/filesystems/squashfs.rst of Linux and
// "The SquashFS archive format" (dr-emann.github.io/squashfs). All fields are little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace pyram {

enum class Compression : std::uint16_t {
  kGzip = 1,
  kLzma = 2,
  kLzo = 3,
  kXz = 4,
  kLz4 = 5,
  kZstd = 6
};

// As mksquashfs's -comp calls it.
[[nodiscard]] std::string_view compression_name(Compression compression);

struct Superblock {
  static constexpr std::size_t kSize = 96;
  static constexpr std::uint64_t kNoTable = ~std::uint64_t{0};
  static constexpr std::uint32_t kMetadataBlockSize = 8192;

  std::uint32_t inode_count = 0;
  std::uint32_t creation_time = 0;  // Seconds since 1970.
  std::uint32_t block_size = 0;     // Bytes, a power of two from 4 KiB to 1 MiB.
  std::uint32_t fragment_count = 0;
  Compression compression = Compression::kGzip;
  std::uint16_t flags = 0;
  std::uint16_t id_count = 0;
  std::uint64_t root_inode = 0;  // An inode reference.
  std::uint64_t bytes_used = 0;  // Length of the SquashFS; what follows it is not part of it.
  // Positions in bytes from the image's start, or kNoTable where the table may be missing.
  std::uint64_t id_table = 0;
  std::uint64_t xattr_table = 0;
  std::uint64_t inode_table = 0;
  std::uint64_t directory_table = 0;
  std::uint64_t fragment_table = 0;
  std::uint64_t export_table = 0;
};

// `available` is how many bytes the file has from the image's start. `name` is for the messages.
// Throws Error (kBadImage) when this is no SquashFS 4.0, is truncated, or cannot be right.
[[nodiscard]] Superblock parse_superblock(std::span<const std::byte> bytes, std::uint64_t available,
                                          std::string_view name);

}  // namespace pyram
