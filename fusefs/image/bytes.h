// Little-endian numbers out of bytes.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pyram {

// REQUIRES: offset + sizeof(T) <= bytes.size().
template <std::unsigned_integral T>
[[nodiscard]] T load_le(std::span<const std::byte> bytes, std::size_t offset) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value =
        static_cast<T>(value | static_cast<T>(std::to_integer<T>(bytes[offset + i])) << (8 * i));
  }
  return value;
}

}  // namespace pyram
