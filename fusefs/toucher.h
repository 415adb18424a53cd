// A child process that looks names up in our own mount.
//
// The kernel takes data for its cache only of inodes that it knows, and it learns of them when
// somebody looks them up. The daemon must not do that itself: a process that waits for its own
// answer cannot die and keeps the connection open for ever. The child has no part of the
// connection, so when the daemon dies, its wait ends.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "support/unique_fd.h"

namespace pyram {

// Not thread-safe.
class Toucher {
 public:
  // Forks. REQUIRES: no other threads. Throws Error.
  explicit Toucher(const std::filesystem::path& mount_point);
  // Tells the child to end and reaps it.
  ~Toucher();
  Toucher(const Toucher&) = delete;
  Toucher& operator=(const Toucher&) = delete;

  // Ends the child, also while touch() waits, which then returns false. Thread-safe.
  void kill() const;

  [[nodiscard]] pid_t child() const { return child_; }

  // Has the child look `path` (relative to the mount point) up, and returns when it did. Returns
  // false when there is no child any more.
  bool touch(const std::string& path);

 private:
  UniqueFd socket_;
  pid_t child_ = -1;
};

}  // namespace pyram
