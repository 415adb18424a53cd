#include "launcher/system.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

namespace pyram::launcher {

std::optional<std::string> read_link(const char* path, int directory) {
  std::array<char, PATH_MAX> buffer;
  const ssize_t size = ::readlinkat(directory, path, buffer.data(), buffer.size());
  if (size < 0) return std::nullopt;
  return std::string(buffer.data(), static_cast<std::size_t>(size));
}

UniqueFd open_path(const char* path, int flags, int directory) {
  return UniqueFd(::openat(directory, path, O_PATH | O_CLOEXEC | flags));
}

std::string path_of(int fd, const std::string& fallback) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  if (auto path = read_link(link.c_str()); path && path->starts_with('/')) return *std::move(path);
  struct Free {
    void operator()(char* text) const { std::free(text); }  // NOLINT: realpath allocates so.
  };
  const std::unique_ptr<char, Free> resolved(::realpath(fallback.c_str(), nullptr));
  return resolved ? std::string(resolved.get()) : fallback;
}

void print_line(int fd, std::string_view text) {
  std::string line(text);
  line.push_back('\n');
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace pyram::launcher
