#include "launcher/virtual_environment.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

constexpr std::string_view kBlank = " \t\r";
constexpr std::size_t kLongest = 16384;  // In bytes; what tools write has some hundred.

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

VirtualEnvironment parse(std::string_view text) {
  VirtualEnvironment environment;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = trimmed(line.substr(0, equals));
    const std::string_view value = trimmed(line.substr(equals + 1));
    if (name == "home") environment.home = value;
    if (name == "pyram-image") environment.image = value;
  }
  return environment;
}

// The directory of a path as text: "." for a plain name.
std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

std::optional<VirtualEnvironment> find_virtual_environment(const std::string& program) {
  const std::string directory = parent_of(program);
  for (const std::string& place : {directory, parent_of(directory)}) {
    const std::string file = place + "/pyvenv.cfg";
    const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) continue;
    std::array<char, kLongest> text;
    const ssize_t size = ::read(fd.get(), text.data(), text.size());
    if (size > 0) return parse({text.data(), static_cast<std::size_t>(size)});
  }
  return std::nullopt;
}

}  // namespace pyram::launcher
