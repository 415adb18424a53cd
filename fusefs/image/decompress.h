// Decompression of one block. Functions are thread-safe, hold one context for each thread that
// calls them, and never write outside `output`.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace pyram {

// How many bytes came out; nothing when the input is corrupt or does not fit. zstd's throws
// std::bad_alloc where there is no memory; libsquashfuse's cannot tell that from corrupt input.
using Decompress = std::optional<std::size_t> (*)(std::span<const std::byte> input,
                                                  std::span<std::byte> output);

[[nodiscard]] std::optional<std::size_t> decompress_zstd(std::span<const std::byte> input,
                                                         std::span<std::byte> output);

}  // namespace pyram
