#include "launcher/virtual_environment.h"

#include <unistd.h>

#include "support/io.h"

namespace pyram::launcher {
namespace {

constexpr std::string_view kBlank = " \t\r";

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
    if (::access(file.c_str(), R_OK) == 0) return parse(read_file(file));
  }
  return std::nullopt;
}

}  // namespace pyram::launcher
