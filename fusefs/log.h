// Where the daemon says what went wrong: stderr in the foreground, syslog in the background.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>
#include <utility>

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
  // REQUIRES, all three: mutex_ is held.
  void fill_up();
  [[nodiscard]] bool count_as_left_out();
  void write(std::string_view message, bool is_error);

  const std::function<Clock::time_point()> now_;
  const Writer writer_;
  std::mutex mutex_;  // Guards what follows.
  Target target_ = Target::kStderr;
  int left_ = kBurst;       // Errors that may be written at once.
  Clock::time_point last_;  // When left_ was added to, or was full.
  std::uint64_t left_out_ = 0;
};

}  // namespace pyram
