// Files that exist at once and get their content a moment later; who opens one waits for it.
//
// Each file has its size, permissions and times from the start. We hold it open with a write lease
// (see fcntl(2), F_SETLEASE). The kernel has everybody else who opens it wait, and sends us a
// signal. Then we write this file before the others, and give the lease up. It needs no privilege:
// a process may have leases on files of its own user. The kernel takes a lease away after
// /proc/sys/fs/lease-break-time seconds, usually 45, which is time for many files.
//
// A lease lasts as long as one process has the file open as we opened it. A second process, forked
// from ours, does; where ours is killed it goes on. Only if both are killed at once are files left
// as they are, all zeros. The directory is then unfinished, and the next start unpacks it anew.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "fusefs/unpack/parallel_writer.h"

namespace pyram {

// Not thread-safe. Image and plan have to outlive it.
class LazyFiles {
 public:
  // Whether the file system has leases, and we may have so many files open. Raises the soft limit
  // of open files if need be.
  [[nodiscard]] static bool can_be_had(const Plan& plan, std::size_t count);

  // Creates the files. Blocks two signals, for good. Throws Error (kCannotWrite).
  LazyFiles(const Image& image, const Plan& plan, unsigned threads,
            std::span<const PlannedFile* const> files);

  // Writes the content of all files, those first that are waited for, and then calls `done`: here,
  // or in the second process. A file that cannot be written is left empty and closed to its user,
  // and `done` is not called. REQUIRES: this process has no other thread. To be called once.
  void fill(const std::function<void()>& done);

 private:
  struct File {
    const PlannedFile* planned = nullptr;
    UniqueFd fd;
    std::atomic<bool> is_claimed{false};
  };

  void create(File& file);
  // Writes one file, unless another thread does or did.
  void write(FileWriter& writer, File& file) noexcept;
  void write_all(FileWriter& writer) noexcept;
  // Returns whether each file has its content.
  [[nodiscard]] bool write_while_waited_for();
  [[nodiscard]] std::vector<File*> by_descriptor();
  void serve_waiting(FileWriter& writer, std::span<File* const> files, int signals,
                     int finished) noexcept;
  // Has this process get the signals from now on.
  void take_over();

  const Image& image_;
  const Plan& plan_;
  std::vector<File> files_;
  std::atomic<bool> has_failed_{false};
};

}  // namespace pyram
