#include "fusefs/serve/background_thread.h"

#include <utility>

namespace pyram {

void BackgroundThread::start(std::function<void(const std::stop_token&)> work) {
  const Lock lock(mutex_);
  if (is_stopped_) return;
  is_stopped_ = true;  // Unless the thread starts.
  thread_ = std::jthread([this, work = std::move(work)](const std::stop_token& stop) {
    work(stop);
    std::vector<std::function<void()>> waiting;
    {
      const Lock ending(mutex_);
      is_running_ = false;
      waiting.swap(when_stopped_);
    }
    for (const auto& call : waiting) call();
  });
  is_stopped_ = false;
  is_running_ = true;
}

void BackgroundThread::stop(std::function<void()> then) {
  Lock lock(mutex_);
  is_stopped_ = true;
  if (!is_running_) {
    lock.unlock();
    then();
    return;
  }
  when_stopped_.push_back(std::move(then));
  std::stop_source source = thread_.get_stop_source();
  lock.unlock();
  source.request_stop();
}

}  // namespace pyram
