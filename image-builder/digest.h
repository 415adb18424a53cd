// SHA-256, by OpenSSL, and digests as text. Thread-safe.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace pyram::builder {

// Two lower-case digits for each byte.
[[nodiscard]] std::string hexadecimal(std::span<const std::byte> bytes);

[[nodiscard]] std::string base64(std::string_view text);

// In lower-case hexadecimal digits.
[[nodiscard]] std::string sha256_of_text(std::string_view text);

// In lower-case hexadecimal digits. Throws Error (kFailed) when the file cannot be read.
[[nodiscard]] std::string sha256_of_file(const std::filesystem::path& file);

}  // namespace pyram::builder
