// Starting a worker and seeing how it ended.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fusefs/control.h"
#include "fusefs/options.h"
#include "fusefs/worker.h"

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

  struct End {
    bool clean = false;  // It did what it was to do.
    std::string how;     // "was ended by signal 11 (Segmentation fault)"
  };
  // REQUIRES: its end of control() is closed. Ends it where it has not ended, and reaps it.
  End wait();

 private:
  WorkerProcess(Control control, pid_t pid) : control_(std::move(control)), pid_(pid) {}

  Control control_;
  pid_t pid_ = -1;  // -1: a thread, or reaped.
  int thread_code_ = 0;
  std::thread thread_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

// The handles of a worker that was started by exec().
[[nodiscard]] WorkerHandles inherited_handles();

}  // namespace pyram
