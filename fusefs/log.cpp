#include "fusefs/log.h"

#include <syslog.h>
#include <unistd.h>

#include <string>

namespace pyram {

void Log::set_target(Target target) {
  const Lock lock(mutex_);
  target_ = target;
  if (target == Target::kSyslog) ::openlog("pyram-mount", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void Log::fill_up() {
  const Clock::time_point now = now_();
  const auto passed = (now - last_) / kInterval;
  if (left_ + passed >= kBurst) {
    left_ = kBurst;
    last_ = now;
  } else {
    left_ += static_cast<int>(passed);
    last_ += passed * kInterval;
  }
}

bool Log::count_as_left_out() {
  fill_up();
  if (left_ > 0) return false;
  ++left_out_;
  return true;
}

bool Log::leaves_out() {
  const Lock lock(mutex_);
  return count_as_left_out();
}

void Log::error(std::string_view message) {
  const Lock lock(mutex_);
  if (count_as_left_out()) return;
  --left_;
  if (left_out_ > 0) {
    write(std::to_string(left_out_) + " errors before this one were left out", true);
    left_out_ = 0;
  }
  write(message, true);
}

void Log::info(std::string_view message) {
  const Lock lock(mutex_);
  write(message, false);
}

void Log::write(std::string_view message, bool is_error) {
  if (writer_) {
    writer_(message, is_error);
    return;
  }
  std::string line(message);
  if (target_ == Target::kSyslog) {
    ::syslog(is_error ? LOG_ERR : LOG_INFO, "%s", line.c_str());
    return;
  }
  line.insert(0, "pyram-mount: ").push_back('\n');
  // There is no way to report a failure of this.
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace pyram
