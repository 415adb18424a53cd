// SHA-256, by OpenSSL.
#pragma once

#include <filesystem>
#include <string>

namespace pyram::builder {

// In lower-case hexadecimal digits. Throws Error (kFailed) when the file cannot be read.
[[nodiscard]] std::string sha256_of_file(const std::filesystem::path& file);

}  // namespace pyram::builder
