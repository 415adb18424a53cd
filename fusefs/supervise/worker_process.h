// Starting a worker and seeing how it ended.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fusefs/mount_options.h"
#include "fusefs/serve/worker.h"
#include "fusefs/supervise/control.h"
#include "support/child.h"

namespace pyram {

// What every worker of a mount gets copies of. They belong to the supervisor.
struct WorkerFiles {
  int device = -1;
  int image = -1;
  int state = -1;
  // Of an image that is being fetched.
  int map = -1;
  int ask = -1;
};

// A worker, as a process or a thread. Not thread-safe.
class WorkerProcess {
 public:
  // A copy of this process, without its other descriptors. Throws Error (kFailed).
  // REQUIRES: no other threads.
  [[nodiscard]] static std::unique_ptr<WorkerProcess> fork(const Options& options,
                                                           const WorkerFiles& files);
  // A process of `program`, called with `arguments` and the option by which it knows that it is a
  // worker. Throws Error (kFailed). Where the program can't be run, the process ends with code 127.
  [[nodiscard]] static std::unique_ptr<WorkerProcess> exec(
      const std::string& program, const std::vector<std::string>& arguments,
      const WorkerFiles& files);
  // A thread. Options have to outlive it.
  [[nodiscard]] static std::unique_ptr<WorkerProcess> start_thread(const Options& options,
                                                                   const WorkerFiles& files);

  // Kills a process. Does not wait for one that the kernel holds.
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  [[nodiscard]] const Control& control() const { return control_; }
  // -1 for a thread.
  [[nodiscard]] pid_t id() const { return child_ ? child_->pid() : -1; }
  [[nodiscard]] std::chrono::steady_clock::time_point started() const { return started_; }

  // For poll(): readable as soon as the worker does nothing any more; -1 for a thread, whose end
  // control() tells.
  //
  // That can be long before the process is gone: a thread that puts bytes into the kernel's cache
  // waits for pages that are being read, which another worker has to answer first.
  [[nodiscard]] int ended() const { return alive_.get(); }

  // REQUIRES: its end of control() is closed, which is the last thing before its end. Gives it the
  // time for that.
  void expect_end() const;

  struct End {
    bool clean = false;  // The file system was unmounted.
    std::string how;     // "was ended by signal 11 (Segmentation fault)"
  };
  // REQUIRES: it ended, or its end of control() is closed. Kills it where it has not ended, and
  // collects it, unless the kernel holds it.
  End wait();
  // Collects it if that can be done now; true when there is nothing left to collect.
  bool reap() noexcept;

 private:
  // Of a thread, or of a process without its Child, which is started when this exists.
  WorkerProcess(Control control, UniqueFd alive);
  // Kills it, and collects it; false where that takes longer.
  bool kill() noexcept;

  Control control_;
  std::optional<Child> child_;
  bool was_lost_ = false;  // Another part of this process collected it.
  UniqueFd alive_;         // A pipe's end, of which the worker has the other.
  int thread_code_ = 0;
  std::thread thread_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

// The handles of a worker that was started by exec().
[[nodiscard]] WorkerHandles inherited_handles(bool is_partial);

}  // namespace pyram
