#include "support/json_text.h"

namespace pyram {

std::string json_text(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      result.append("\\u00").push_back(kHex[byte >> 4]);
      result.push_back(kHex[byte & 0xf]);
      continue;
    }
    if (c == '"' || c == '\\') result.push_back('\\');
    result.push_back(c);
  }
  return result += '"';
}

}  // namespace pyram
