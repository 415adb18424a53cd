// Reading and writing whole buffers through descriptors. Thread-safe as far as the descriptor is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "support/unique_fd.h"

namespace pyram {

// Fills `buffer` from `offset`. Returns how many bytes there were: fewer than asked for only at the
// end of the file. Throws Error (kFailed) when the read fails.
[[nodiscard]] std::size_t pread_full(int fd, std::span<std::byte> buffer, std::uint64_t offset);

// Writes all of `bytes`, going on after signals and short writes. Throws Error (kCannotWrite).
void write_full(int fd, std::span<const std::byte> bytes, std::string_view what);
void write_full(int fd, std::string_view text, std::string_view what);

// Writes all of `bytes` at `offset`, in the same way. Returns false with errno set where it fails.
[[nodiscard]] bool pwrite_full(int fd, std::span<const std::byte> bytes, std::uint64_t offset);

// Everything until end of file. Throws Error (kFailed).
[[nodiscard]] std::string read_to_end(int fd, std::string_view what);
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

// Creates or replaces a file as a whole: written beside it under a temporary name, synced, renamed.
// Throws Error (kCannotWrite) and leaves nothing behind.
void write_file(const std::filesystem::path& path, std::string_view text);

// Opens /dev/null on each of 0, 1 and 2 that is closed, so that no descriptor opened later takes
// one of these numbers and has messages or a script's output written into it.
void ensure_standard_descriptors();

}  // namespace pyram
