// When nothing was asked for some time: first memory is given back, later the mount goes.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace pyram {

// Not thread-safe.
class IdleWatch {
 public:
  struct Step {
    bool give_back_memory = false;
    bool try_expiry = false;   // See MountPoint::expire: once to mark, once more to unmount.
    bool may_unmount = false;  // Idle for the whole time.
  };

  // `timeout` in seconds until the mount goes; 0: never.
  explicit IdleWatch(std::uint64_t timeout)
      : half_(std::chrono::milliseconds(std::min(timeout, kLongest) * 500)), never_(timeout == 0) {}

  // How long to wait before look() has something to do; -1: until something happens.
  [[nodiscard]] int milliseconds() const {
    auto until = Clock::time_point::max();
    if (holds_memory_) until = last_change_ + kMemoryTime;
    if (!never_) until = std::min(until, next_expiry_);
    if (until == Clock::time_point::max()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30));
  }

  // `requests` is how many there were until now.
  [[nodiscard]] Step look(std::uint64_t requests) {
    const auto now = Clock::now();
    Step step;
    if (requests != requests_) {
      requests_ = requests;
      last_change_ = now;
      holds_memory_ = true;
      next_expiry_ = now + half_;
      halves_ = 0;
      return step;
    }
    if (holds_memory_ && now >= last_change_ + kMemoryTime) {
      step.give_back_memory = true;
      holds_memory_ = false;
    }
    if (!never_ && now >= next_expiry_) {
      step.try_expiry = true;
      step.may_unmount = ++halves_ >= 2;
      next_expiry_ = now + half_;
    }
    return step;
  }

 private:
  using Clock = std::chrono::steady_clock;
  // Far longer than the pauses between the readers of one block; decompressing it takes 1 ms.
  static constexpr std::chrono::milliseconds kMemoryTime{250};
  static constexpr std::uint64_t kLongest = 1'000'000;  // Twelve days, in seconds.

  std::chrono::milliseconds half_;
  bool never_;
  std::uint64_t requests_ = 0;
  bool holds_memory_ = true;
  int halves_ = 0;
  Clock::time_point last_change_ = Clock::now();
  Clock::time_point next_expiry_ = Clock::now() + half_;
};

}  // namespace pyram
