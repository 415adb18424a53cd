// Where the daemon says what went wrong: stderr in the foreground, syslog in the background.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "support/locks.h"

namespace pyram {

// Thread-safe. A broken image can fail thousands of requests: after kBurst errors one is written
// for each kInterval that passes, and before it a line that says how many were left out.
class Log {
 public:
  enum class Target { kStderr, kSyslog };
  using Clock = std::chrono::steady_clock;
  static constexpr int kBurst = 100;
  static constexpr std::chrono::seconds kInterval{10};

  using Writer = std::function<void(std::string_view message, bool is_error)>;

  // Writes to the target.
  Log() : Log(Writer()) {}
  // `writer` writes the lines instead, from any thread. `now` tells the time.
  explicit Log(Writer writer, std::function<Clock::time_point()> now = Clock::now)
      : now_(std::move(now)), writer_(std::move(writer)), last_(now_()) {}

  // Opens the connection to syslog at once: a confined daemon could not do it later.
  void set_target(Target target);
  // One line, without the program's name.
  void error(std::string_view message);
  void info(std::string_view message);
  // Whether an error would be left out now; it counts as left out then.
  [[nodiscard]] bool leaves_out();

 private:
  void fill_up() PYRAM_REQUIRES(mutex_);
  [[nodiscard]] bool count_as_left_out() PYRAM_REQUIRES(mutex_);
  void write(std::string_view message, bool is_error) PYRAM_REQUIRES(mutex_);

  const std::function<Clock::time_point()> now_;
  const Writer writer_;
  Mutex mutex_;
  Target target_ PYRAM_GUARDED_BY(mutex_) = Target::kStderr;
  // Errors that may be written at once.
  int left_ PYRAM_GUARDED_BY(mutex_) = kBurst;
  // When left_ was added to, or was full.
  Clock::time_point last_ PYRAM_GUARDED_BY(mutex_);
  std::uint64_t left_out_ PYRAM_GUARDED_BY(mutex_) = 0;
};

}  // namespace pyram
