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

std::string quote(std::string_view text) { return "'" + escape(text) + "'"; }

std::string escape(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result;
  std::size_t controls = 0;  // how many of the next bytes are a control character's
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x20 || byte == 0x7f) {
      controls = 1;
    } else if (byte == 0xc2 && at + 1 < text.size() &&
               (static_cast<unsigned char>(text[at + 1]) & 0xe0U) == 0x80) {
      controls = 2;
    }
    if (controls == 0) {
      result.push_back(text[at]);
      continue;
    }
    --controls;
    result.append("\\x").push_back(kHex[byte >> 4]);
    result.push_back(kHex[byte & 0xf]);
  }
  return result;
}

}  // namespace pyram
