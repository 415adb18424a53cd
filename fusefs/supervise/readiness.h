// Reports, exactly once, that the mount serves, or why it does not.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "support/child.h"
#include "support/error.h"
#include "support/unique_fd.h"

namespace pyram {

// Not thread-safe: one thread at a time.
class Readiness {
 public:
  // `descriptor` gets '+', or '-' and the error's text, and is then closed. `notify_pipe` (may be
  // empty) gets squashfuse's 's' or 'f', also where its reader opens it later: a child process
  // waits for that, at most as long as this process runs; with an 'f', for a minute.
  Readiness(UniqueFd descriptor, std::filesystem::path notify_pipe)
      : descriptor_(std::move(descriptor)), notify_pipe_(std::move(notify_pipe)) {}

  // In a daemon that went to the background, also tell the process that started it.
  void set_parent(UniqueFd parent) { parent_ = std::move(parent); }

  void succeed();
  void fail(const Error& error);

  // For poll(): readable once the child that waits for the reader of the pipe has ended; -1: there
  // is none.
  [[nodiscard]] int notifier() const { return notifier_ ? notifier_->descriptor() : -1; }
  void collect_notifier() { notifier_.reset(); }

 private:
  void write_notify_pipe(char word);

  UniqueFd descriptor_;
  UniqueFd parent_;
  std::filesystem::path notify_pipe_;
  std::optional<Child> notifier_;
};

// Waits for what the child writes with set_parent's other end. Returns when it is ready, and throws
// the child's Error when it is not; with the text `died` where it ended without a word.
void wait_for_child(UniqueFd pipe, const std::string& died);

// Sends `state` ("READY=1") to systemd where it started us as a service of Type=notify.
void notify_service_manager(const std::string& state);

}  // namespace pyram
