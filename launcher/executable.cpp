#include "launcher/executable.h"

#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "launcher/settings.h"
#include "launcher/system.h"
#include "support/error.h"

namespace pyram::launcher {
namespace {

constexpr char kSelf[] = "/proc/self/exe";
// Where programs are looked for after PATH, which `env -i` and service managers may leave empty.
constexpr std::string_view kUsualDirectories = "/usr/local/bin:/usr/bin:/bin";

bool same_file(const char* path, const struct stat& status) {
  struct stat other {};
  return ::stat(path, &other) == 0 && other.st_ino == status.st_ino &&
         other.st_dev == status.st_dev;
}

// The first DIRECTORY/NAME for which `accept` is true, of a list of directories as PATH has it.
template <typename Accept>
std::optional<std::string> search(std::string_view directories, std::string_view name,
                                  Accept accept) {
  while (!directories.empty()) {
    const std::string_view directory = directories.substr(0, directories.find(':'));
    directories.remove_prefix(std::min(directory.size() + 1, directories.size()));
    if (directory.empty()) continue;
    std::string candidate = std::string(directory).append("/").append(name);
    if (accept(candidate.c_str())) return candidate;
  }
  return std::nullopt;
}

// Without /proc, as in some chroots, what execve was given has to do. Kept out of what other starts
// read of the program.
[[gnu::cold, gnu::noinline]] bool look_without_proc(const char* executed, std::string& file,
                                                    struct stat& self) {
  if (file.empty()) file = path_of(-1, executed);
  return ::stat(file.c_str(), &self) == 0;
}

}  // namespace

std::vector<std::string> Executable::directories() const {
  std::vector<std::string> result;
  if (const std::size_t slash = file.rfind('/'); slash != std::string::npos) {
    result.push_back(file.substr(0, slash));
  }
  if (!home.empty() && (result.empty() || home != result.front())) result.push_back(home);
  return result;
}

Executable find_executable(const char* argv0) {
  Executable result;
  result.file = read_link(kSelf).value_or("");
  const std::string_view name = argv0 != nullptr ? argv0 : "";
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel hands this pointer over as a number.
  const auto* const executed = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  struct stat self {};
  bool known = ::stat(kSelf, &self) == 0;
  if (!known && executed != nullptr) known = look_without_proc(executed, result.file, self);
  const auto is_self = [&](const char* path) {
    return known ? same_file(path, self) : ::access(path, X_OK) == 0;
  };
  // argv[0] is what users expect, when it leads here: for a script's #! line only it does. A
  // caller may put any text there, hence the check.
  if (name.find('/') != std::string_view::npos && is_self(argv0)) {
    result.called_as = name;
    return result;
  }
  // Found by a search of PATH: the path that the search ended with.
  if (executed != nullptr && is_self(executed)) {
    result.called_as = executed;
  } else if (const auto path = environment_variable("PATH"); path && !name.empty()) {
    if (auto found = search(*path, name, is_self)) result.called_as = *std::move(found);
  }
  if (result.called_as.empty()) result.called_as = result.file;
  return result;
}

std::optional<std::string> find_companion(const Executable& self, const char* name) {
  const auto is_program = [](const char* path) { return ::access(path, X_OK) == 0; };
  for (const std::string& directory : self.directories()) {
    std::string candidate = directory + '/' + name;
    if (is_program(candidate.c_str())) return candidate;
  }
  std::string directories = environment_variable("PATH").value_or("");
  directories.append(":").append(kUsualDirectories);
  return search(directories, name, is_program);
}

std::vector<std::string> daemon_command(const Executable& self) {
  if (!self.daemon.empty()) return self.daemon;
  if (auto program = find_companion(self, "pyram-mount")) return {*std::move(program)};
  throw Error(ExitCode::kLauncherFailed,
              "cannot find pyram-mount, neither beside pyram nor in PATH; install both in one "
              "directory");
}

}  // namespace pyram::launcher
