// The few system calls of the launcher that need more than one line. Thread-safe.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>

#include "support/unique_fd.h"

namespace pyram::launcher {

// Where a symbolic link points, or nothing (errno says why).
[[nodiscard]] std::optional<std::string> read_link(const char* path, int directory = AT_FDCWD);

// A descriptor that names a file without opening it for reading, every link followed.
// Holds the mount that the file lies on: it can't be unmounted meanwhile, except lazily.
[[nodiscard]] UniqueFd open_path(const char* path, int flags = 0, int directory = AT_FDCWD);

// The canonical path of an open descriptor; `fallback` where /proc is not mounted.
[[nodiscard]] std::string path_of(int fd, const std::string& fallback);

// Writes a line to stdout or stderr as far as that can be done.
void print_line(int fd, std::string_view text);

}  // namespace pyram::launcher
