// The little that supervisor and worker share, in memory that outlives both a worker's crash and
// its replacement by a newer program.
#pragma once

#include <linux/limits.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "fusefs/statistics.h"
#include "fusefs/supervise/resume_state.h"
#include "support/unique_fd.h"

namespace pyram {

// No pointers. A newer program may find the state of an older one: new members come last, and
// a change of what is there raises the version.
struct SharedState {
  static constexpr std::uint32_t kVersion = 1;

  std::uint32_t version = kVersion;
  pid_t daemon = 0;                    // The process to signal: the supervisor.
  std::int64_t started = 0;            // Of the steady clock, in nanoseconds.
  std::array<char, PATH_MAX> image{};  // Absolute paths, ended by a zero.
  std::array<char, PATH_MAX> mount_point{};
  ResumeState resume;
  Statistics statistics;  // Counts since the mount was made.
};

// Owns a SharedState and the descriptor through which other processes get at it. Movable.
class SharedMemory {
 public:
  // New, with the clock started. Paths that are too long are cut: they are only shown.
  // Throws Error (kFailed).
  [[nodiscard]] static SharedMemory create(const std::string& image,
                                           const std::string& mount_point);
  // What another process created. Throws Error (kFailed) where that is of another version.
  [[nodiscard]] static SharedMemory attach(UniqueFd descriptor);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  [[nodiscard]] SharedState& operator*() const { return *state_; }
  [[nodiscard]] SharedState* operator->() const { return state_; }
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }

 private:
  explicit SharedMemory(UniqueFd descriptor);

  UniqueFd descriptor_;
  SharedState* state_ = nullptr;
};

}  // namespace pyram
