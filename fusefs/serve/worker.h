// What answers the kernel: everything between the open connection and the image file. It keeps
// nothing that a mount needs to live: when it dies, another one goes on.
#pragma once

#include "fusefs/mount_options.h"
#include "fusefs/supervise/control.h"
#include "support/unique_fd.h"

namespace pyram {

// What a worker gets from its supervisor, which keeps descriptors of its own of all of it.
struct WorkerHandles {
  UniqueFd control;
  UniqueFd device;  // The open /dev/fuse of the mount.
  UniqueFd image;   // The same file for every worker, whatever its path leads to by now.
  UniqueFd state;   // Of a SharedMemory.
  UniqueFd alive;   // Closed by the end of a process, and by nothing else: see run_worker().
  // Of an image that is being fetched: `map` and `ask` (fusefs/image/partial_image.h). `ask` may be
  // of something else (/dev/null), where nobody may be asked.
  UniqueFd map{};
  UniqueFd ask{};
};

// How a worker is run.
enum class WorkerKind {
  kProcess,  // A process of its own: confined, and ended with its supervisor.
  kThread,   // A thread of its supervisor, for debuggers and for recording: not confined.
};

// Serves until the mount is gone, or it is told to stop. A thread returns an exit code, 0 when it
// did all that it was to do; a process ends with that code. Throws nothing. REQUIRES: the signals
// that end the daemon are blocked; as a process: no other threads.
[[nodiscard]] int run_worker(const Options& options, WorkerHandles handles,
                             WorkerKind kind) noexcept;

}  // namespace pyram
