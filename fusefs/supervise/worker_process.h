// Starting a worker and seeing how it ended.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fusefs/mount_options.h"
#include "fusefs/serve/worker.h"
#include "fusefs/supervise/control.h"

namespace pyram {

// What every worker of a mount gets. The supervisor's own; workers get copies.
struct WorkerFiles {
  int device = -1;
  int image = -1;
  int state = -1;
};

// A worker, as a process or a thread. Not thread-safe.
class WorkerProcess {
 public:
  // A copy of this process, without its other descriptors. Throws Error (kFailed).
  // REQUIRES: no other threads.
  [[nodiscard]] static std::unique_ptr<WorkerProcess> fork(const Options& options,
                                                           const WorkerFiles& files);
  // A process of `program`, called with `arguments` and the option by which it knows what it is.
  // Throws Error (kFailed); a program that can't be run ends without a word.
  [[nodiscard]] static std::unique_ptr<WorkerProcess> exec(
      const std::string& program, const std::vector<std::string>& arguments,
      const WorkerFiles& files);
  // A thread. Options have to outlive it.
  [[nodiscard]] static std::unique_ptr<WorkerProcess> start_thread(const Options& options,
                                                                   const WorkerFiles& files);

  // Ends a process at once.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  [[nodiscard]] const Control& control() const { return control_; }
  [[nodiscard]] pid_t id() const { return pid_; }
  [[nodiscard]] std::chrono::steady_clock::time_point started() const { return started_; }

  // For poll: readable as soon as the worker does nothing any more; -1 for a thread, of which
  // control() tells.
  //
  // That can be long before the process is gone: a thread that puts bytes into the kernel's cache
  // waits for pages that are being read, which another worker has to answer first.
  [[nodiscard]] int ended() const { return alive_.get(); }

  // REQUIRES: its end of control() is closed, which is the last thing before its end. Gives it the
  // time for that.
  void expect_end() const;

  struct End {
    bool clean = false;  // It did what it was to do.
    std::string how;     // "was ended by signal 11 (Segmentation fault)"
  };
  // REQUIRES: it ended, or its end of control() is closed. Ends it where it has not ended. Reaps
  // it, but for one that the kernel doesn't let go yet.
  End wait();
  // Reaps it if that can be done now; true when there is nothing left to reap.
  bool reap() noexcept;

 private:
  // Made before its process, for which there must be an owner then.
  WorkerProcess(Control control, UniqueFd alive);
  void own(pid_t child) noexcept;
  // Ends it where it has not ended, and reaps it; false where that takes longer.
  bool kill() noexcept;

  Control control_;
  pid_t pid_ = -1;    // -1: a thread, or reaped.
  siginfo_t end_{};   // As waitid() gave it.
  UniqueFd process_;  // Of pidfd_open(); none where the kernel hasn't that.
  UniqueFd alive_;    // A pipe's end, of which the worker has the other.
  int thread_code_ = 0;
  std::thread thread_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

// The handles of a worker that was started by exec().
[[nodiscard]] WorkerHandles inherited_handles();

}  // namespace pyram
