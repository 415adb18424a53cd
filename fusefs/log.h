// Where the daemon says what went wrong: stderr in the foreground, syslog in the background.
#pragma once

#include <functional>
#include <mutex>
#include <string_view>

namespace pyram {

// Thread-safe. A broken image can fail thousands of requests: after a few lines it falls silent.
class Log {
 public:
  enum class Target { kStderr, kSyslog };

  // Opens the connection to syslog at once: a confined daemon could not do it later.
  void set_target(Target target);
  // From now on somebody else writes the lines.
  using Writer = std::function<void(std::string_view message, bool is_error)>;
  void forward_to(Writer writer);
  // One line, without the program's name.
  void error(std::string_view message) { write(message, true); }
  void info(std::string_view message) { write(message, false); }
  // Whether an error would not be written any more.
  [[nodiscard]] bool is_silent();

 private:
  static constexpr int kMostErrors = 100;
  void write(std::string_view message, bool is_error);

  std::mutex mutex_;
  Target target_ = Target::kStderr;
  Writer writer_;
  int errors_ = 0;
};

}  // namespace pyram
