#include "launcher/runtime_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "launcher/settings.h"
#include "launcher/system.h"
#include "support/error.h"
#include "support/exact_modes.h"

namespace pyram::launcher {

// A place where the directory may be.
class Candidate {
 public:
  Candidate(std::string path, bool shared) : path_(std::move(path)), shared_(shared) {}

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] std::optional<RuntimeDirectory> open() const {
    UniqueFd fd = open_path(path_.c_str(), O_DIRECTORY | O_NOFOLLOW);
    if (!fd) {
      if (errno == ENOENT) return std::nullopt;
      if (errno == ELOOP || errno == ENOTDIR) refuse("it is a link or no directory");
      throw system_error(ExitCode::kLauncherFailed, errno, "open the directory " + quote(path_));
    }
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) {
      throw system_error(ExitCode::kLauncherFailed, errno, "look at the directory " + quote(path_));
    }
    // With O_PATH a link is opened as itself on some kernels, O_DIRECTORY notwithstanding.
    if (!S_ISDIR(status.st_mode)) refuse("it is a link or no directory");
    if (status.st_uid != ::geteuid()) {
      refuse("it belongs to uid " + std::to_string(status.st_uid) + ", not to you");
    }
    const mode_t forbidden = shared_ ? 022 : 077;
    if ((status.st_mode & forbidden) != 0) {
      refuse(shared_ ? "others may write to it (chmod 755 would make it safe)"
                     : "others have access to it (chmod 700 would make it safe)");
    }
    return RuntimeDirectory(path_, std::move(fd), shared_);
  }

  // Only a directory that can be written to is of use for a new mount. Sets `error` where there is
  // none and none could be made.
  [[nodiscard]] std::optional<RuntimeDirectory> open_or_make(int& error) const {
    auto directory = open();
    if (!directory) {
      error = make();
      if (error != 0) return std::nullopt;
      directory = open();
    }
    if (directory && ::faccessat(directory->fd(), ".", W_OK | X_OK, AT_EACCESS) == 0)
      return directory;
    error = errno;
    return std::nullopt;
  }

 private:
  // An errno value, or 0.
  [[nodiscard]] int make() const {
    const ExactModes exact;
    if (::mkdir(path_.c_str(), shared_ ? 0755 : 0700) == 0 || errno == EEXIST) return 0;
    return errno;
  }

  [[noreturn]] void refuse(const std::string& reason) const {
    throw Error(ExitCode::kLauncherFailed,
                "refusing to use the run-time directory " + quote(path_) + ": " + reason +
                    "; remove it, or set XDG_RUNTIME_DIR to a directory of yours");
  }

  std::string path_;
  bool shared_;
};

namespace {

bool is_directory_of(const std::string& path, uid_t user) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == user;
}

// Whether XDG_RUNTIME_DIR is to be believed. One that was inherited from another user (su, sudo
// with the environment kept) or that nobody made is to be passed over, as its specification says;
// but a directory that we could write to was meant.
bool is_usable(const std::string& directory, uid_t user) {
  if (is_directory_of(directory, user)) return true;
  return user != 0 && ::access(directory.c_str(), W_OK | X_OK) == 0;
}

// Best first; the second is where to go when the first can't be made.
std::vector<Candidate> candidates() {
  const uid_t user = ::geteuid();
  const std::string id = std::to_string(user);
  const std::string login = "/run/user/" + id;
  std::vector<Candidate> result;
  const auto variable = environment_variable("XDG_RUNTIME_DIR");
  const bool usable = variable && variable->starts_with('/') && is_usable(*variable, user);
  if (usable && !(user == 0 && *variable == login)) {
    result.emplace_back(*variable + "/pyram", false);
  } else if (user == 0) {
    result.emplace_back("/run/pyram", true);
    result.emplace_back("/tmp/pyram-0", false);
  } else if (is_directory_of(login, user)) {
    result.emplace_back(login + "/pyram", false);
  } else {
    result.emplace_back("/tmp/pyram-" + id, false);
  }
  return result;
}

}  // namespace

std::optional<RuntimeDirectory> RuntimeDirectory::find() {
  for (const Candidate& candidate : candidates()) {
    if (auto directory = candidate.open()) return directory;
  }
  return std::nullopt;
}

RuntimeDirectory RuntimeDirectory::find_or_make() {
  int error = 0;
  std::string path;
  for (const Candidate& candidate : candidates()) {
    path = candidate.path();
    if (auto directory = candidate.open_or_make(error)) return *std::move(directory);
  }
  throw system_error(ExitCode::kLauncherFailed, error,
                     "write to the run-time directory " + quote(path),
                     "set XDG_RUNTIME_DIR to a directory of yours");
}

RuntimeDirectory RuntimeDirectory::make_at(const std::string& path, bool shared) {
  int error = 0;
  if (auto directory = Candidate(path, shared).open_or_make(error)) return *std::move(directory);
  throw system_error(ExitCode::kLauncherFailed, error, "write to the directory " + quote(path));
}

}  // namespace pyram::launcher
