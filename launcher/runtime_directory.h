// The directory that a user's mount points, locks and notes lie in.
//
// Which one it is:
//   $XDG_RUNTIME_DIR/pyram   where the variable names a directory that is this user's
//   /run/user/UID/pyram      where /run/user/UID is there and this user's
//   /run/pyram               for root (0755, so that a service that starts as root and then
//                            becomes another user goes on reading its modules)
//   /tmp/pyram-UID           otherwise
// It is used only if it is this user's own, writable by this user only (mode 0700; root's
// /run/pyram 0755), and no symbolic link: what is written here decides what the user runs.
#pragma once

#include <optional>
#include <string>

#include "support/unique_fd.h"

namespace pyram::launcher {

class RuntimeDirectory {
 public:
  // The directory if it is there. Throws Error if it is there and not safe to use.
  [[nodiscard]] static std::optional<RuntimeDirectory> find();
  // The same, made where it is missing. Throws Error when that fails.
  [[nodiscard]] static RuntimeDirectory find_or_make();

  // A directory of this user's at `path`, by the same rules; made where it is missing.
  [[nodiscard]] static RuntimeDirectory make_at(const std::string& path, bool shared);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // Whether other users can reach what is mounted in it (root's directory).
  [[nodiscard]] bool shared() const { return shared_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + '/' + name; }

 private:
  RuntimeDirectory(std::string path, UniqueFd fd, bool is_shared)
      : path_(std::move(path)), fd_(std::move(fd)), shared_(is_shared) {}
  friend class Candidate;

  std::string path_;
  UniqueFd fd_;  // O_PATH
  bool shared_;
};

}  // namespace pyram::launcher
