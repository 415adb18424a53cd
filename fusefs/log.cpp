#include "fusefs/log.h"

#include <syslog.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace pyram {

void Log::set_target(Target target) {
  const std::lock_guard lock(mutex_);
  target_ = target;
  if (target == Target::kSyslog) ::openlog("pyram-mount", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void Log::forward_to(Writer writer) {
  const std::lock_guard lock(mutex_);
  writer_ = std::move(writer);
}

bool Log::is_silent() {
  const std::lock_guard lock(mutex_);
  return errors_ > kMostErrors;
}

void Log::write(std::string_view message, bool is_error) {
  const std::lock_guard lock(mutex_);
  if (is_error && errors_ > kMostErrors) return;
  std::string line(message);
  if (is_error && errors_++ == kMostErrors) line = "more errors follow; they are not logged";
  if (writer_) {
    writer_(line, is_error);
    return;
  }
  if (target_ == Target::kSyslog) {
    ::syslog(is_error ? LOG_ERR : LOG_INFO, "%s", line.c_str());
    return;
  }
  line.insert(0, "pyram-mount: ").push_back('\n');
  // Nobody can be told when this fails.
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace pyram
