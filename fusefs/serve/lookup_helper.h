// A child process that looks names up in our own mount.
//
// The kernel takes data for its cache only of inodes that it knows, and it learns of them when
// a process looks them up or lists their directory. The daemon must not do that itself: a process
// that waits for its own answer cannot die and keeps the connection open for ever. The child has no
// part of the connection, so when the daemon dies, its wait ends.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>

#include "support/child.h"
#include "support/unique_fd.h"

namespace pyram {

// Not thread-safe.
class LookupHelper {
 public:
  // Forks; the child makes async-signal-safe calls only, so there may be other threads. Throws
  // Error.
  explicit LookupHelper(const std::filesystem::path& mount_point);
  // Tells the child to end and reaps it.
  ~LookupHelper();
  LookupHelper(const LookupHelper&) = delete;
  LookupHelper& operator=(const LookupHelper&) = delete;

  // Ends the child, also while look_up() or list() waits, which then returns false. Thread-safe.
  void kill() const;

  [[nodiscard]] pid_t child() const { return child_->pid(); }

  // Have the child look `path` up, or list the beginning of the directory `path` with what
  // READDIRPLUS says of everything in it, and return when it did; paths are relative to the mount
  // point. Return false when there is no child any more.
  bool look_up(const std::string& path) { return ask(Question::kLookUp, path); }
  bool list(const std::string& directory) { return ask(Question::kList, directory); }

 private:
  enum class Question : char { kLookUp = 'u', kList = 'l' };
  bool ask(Question question, const std::string& path);
  // `path` is the mount point and a slash, and has room for what comes after it.
  [[noreturn]] static void answer_all(int socket, std::string& path);

  UniqueFd socket_;
  std::optional<Child> child_;  // Always, after construction.
};

}  // namespace pyram
