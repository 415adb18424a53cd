// The only file that includes libsquashfuse's headers (they install a config.h that redefines
// much).
//
// Of that library only the compressors are used: its reading of metadata trusts offsets that a
// hostile image can choose, and cannot be guarded from outside.
#include "fusefs/image/compressors.h"

extern "C" {
#include <squashfuse/squashfuse.h>
}

namespace pyram {
namespace {

template <int kType>
std::optional<std::size_t> decompress_with_squashfuse(std::span<const std::byte> input,
                                                      std::span<std::byte> output) noexcept {
  std::size_t size = output.size();
  // The library's type takes a pointer to something it does not write to.
  void* const in = const_cast<std::byte*>(input.data());  // NOLINT
  const sqfs_decompressor decompress = sqfs_decompressor_get(kType);
  if (decompress(in, input.size(), output.data(), &size) != SQFS_OK || size > output.size()) {
    return std::nullopt;
  }
  return size;
}

template <int kType>
Decompress if_supported() {
  return sqfs_decompressor_get(kType) != nullptr ? &decompress_with_squashfuse<kType> : nullptr;
}

}  // namespace

Decompress find_decompressor(Compression compression) {
  switch (compression) {
    case Compression::kZstd:
      return &decompress_zstd;
    case Compression::kGzip:
      return if_supported<ZLIB_COMPRESSION>();
    case Compression::kLzma:
      return if_supported<LZMA_COMPRESSION>();
    case Compression::kLzo:
      return if_supported<LZO_COMPRESSION>();
    case Compression::kXz:
      return if_supported<XZ_COMPRESSION>();
    case Compression::kLz4:
      return if_supported<LZ4_COMPRESSION>();
  }
  return nullptr;
}

}  // namespace pyram
