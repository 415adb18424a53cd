// Amounts as people read them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace pyram {

// "28.2 MB", in units of 1,000,000 bytes.
[[nodiscard]] inline std::string megabytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace pyram
