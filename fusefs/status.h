// What `pyram-mount --status` shows, and how it gets it out of the daemon.
//
// By an ioctl on the mount's root directory: every user of the mount may ask, no file has to be
// kept anywhere that could go stale, and it works in any container that has the mount. The answer
// is lines of NAME=VALUE; names are stable, new ones may come.
#pragma once

#include <sys/ioctl.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>

#include "fusefs/image/partial_image.h"
#include "fusefs/mount_options.h"
#include "fusefs/statistics.h"

namespace pyram {

// As large as an ioctl's answer may be without the daemon seeing the caller's memory.
inline constexpr std::size_t kStatusSize = 8192;
inline constexpr unsigned long kStatusCommand = _IOR('P', 0x51, std::byte[kStatusSize]);

// Asks the daemon to keep out of its own mount from now on, so that it can be unmounted; answered
// when it does. For the mount's owner and root, as what follows; others get EPERM.
inline constexpr unsigned long kQuiesceCommand = _IO('P', 0x52);

// Asks the daemon for a worker of the program that is on disk now. The answer is a text: why that
// can't be, or nothing.
inline constexpr std::size_t kReloadSize = 1024;
inline constexpr unsigned long kReloadCommand = _IOR('P', 0x53, std::byte[kReloadSize]);

// What does not change while the daemon runs.
struct DaemonFacts {
  std::string image;
  std::string mount_point;
  pid_t daemon = 0;         // The process to signal.
  std::string confinement;  // What holds the worker.
  bool verifies = false;    // Whether what is read of the image is checked.
  int memory_file = -1;     // /proc/self/statm, which a confined worker could not open later.
  unsigned threads = 0;
  std::size_t cache_capacity = 0;
  const PartialImage* partial = nullptr;  // Of an image that is being fetched.
  std::chrono::steady_clock::time_point started;
};

// The daemon's side. Thread-safe.
[[nodiscard]] std::string describe_status(const DaemonFacts& facts, const Statistics& statistics);

// The other side: asks the daemon of `mount_point`. Throws Error (kBadMountPoint).
[[nodiscard]] std::string query_status(const std::filesystem::path& mount_point);

// Sends kQuiesceCommand. Not an error when the daemon does not know it.
void quiesce(const std::filesystem::path& mount_point);

// `pyram-mount --reload`: returns once the new worker is about to serve. Throws Error.
void reload_worker(const std::filesystem::path& mount_point);

// Lines of NAME=VALUE as a program wants them. (For a person: fusefs/cli/status_summary.h.)
[[nodiscard]] std::string format_status(const std::string& lines, StatusFormat format);

}  // namespace pyram
