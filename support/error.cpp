#include "support/error.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace pyram {

Error::Error(ExitCode code, std::string message, int error_number)
    : code_(code),
      message_(std::move(message)),
      error_number_(error_number != 0 ? error_number : EIO) {}

std::string describe_errno(int error_number) {
  std::array<char, 256> buffer{};
  // The GNU variant: returns the text, which need not lie in the buffer.
  return strerror_r(error_number, buffer.data(), buffer.size());
}

Error system_error(ExitCode code, int error_number, std::string_view tried,
                   std::string_view advice) {
  std::string message = "cannot ";
  message.append(tried).append(": ").append(describe_errno(error_number));
  if (!advice.empty()) message.append("; ").append(advice);
  return {code, std::move(message), error_number};
}

std::string quote(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result = "'";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      result.append("\\x").push_back(kHex[byte >> 4]);
      result.push_back(kHex[byte & 0xf]);
    } else {
      result.push_back(c);
    }
  }
  result.push_back('\'');
  return result;
}

}  // namespace pyram
