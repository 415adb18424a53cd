// SHA-256, by OpenSSL. Thread-safe; fails never.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace pyram {

using Sha256 = std::array<std::byte, 32>;

// Of `bytes` followed by `zeros` bytes that are zero.
[[nodiscard]] Sha256 sha256(std::span<const std::byte> bytes, std::size_t zeros = 0);

}  // namespace pyram
