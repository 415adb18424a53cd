// A thread that can be told to stop before, while and after it starts.
#pragma once

#include <functional>
#include <stop_token>
#include <thread>
#include <vector>

#include "support/locks.h"

namespace pyram {

// Thread-safe.
class BackgroundThread {
 public:
  // Runs `work` in a thread, unless stop() came before. Called once. Throws std::exception where
  // there is no thread to be had; it counts as stopped then.
  void start(std::function<void(const std::stop_token&)> work);

  // Has `work` stop, and calls `then` once it has returned: in its thread, or at once where none
  // runs. Does not wait. May be called several times.
  void stop(std::function<void()> then);

 private:
  Mutex mutex_;
  bool is_stopped_ PYRAM_GUARDED_BY(mutex_) = false;
  bool is_running_ PYRAM_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> when_stopped_ PYRAM_GUARDED_BY(mutex_);
  std::jthread thread_ PYRAM_GUARDED_BY(mutex_);  // Last: it ends before what it uses.
};

}  // namespace pyram
