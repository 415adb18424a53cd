// What is missing of an image, and what of it comes next.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "support/locks.h"

namespace pyram::registry {

// Chunks that follow each other.
struct Run {
  enum class Why { kWanted, kHot, kBackground };
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  Why why = Why::kBackground;
};

// First what somebody waits for, then what a start reads and what was announced, then the rest:
// what programs read after their starts, then from the beginning to the end. The rest pauses for a
// moment after somebody has waited, so that the next wait has the line for itself. Thread-safe.
class FetchQueue {
 public:
  // `here`: for each chunk whether it is here.
  explicit FetchQueue(std::vector<bool> here);

  // Somebody waits for these.
  void want(std::uint32_t first, std::uint32_t count);
  // Somebody will read these soon.
  void announce(std::uint32_t first, std::uint32_t count);
  // What a start reads, and what comes behind that, in the order of their first uses.
  void set_order(const std::vector<std::uint32_t>& hot, std::vector<std::uint32_t> later);

  // The next run, which nobody else gets. Waits for one; nothing once it was stopped.
  // `last`: the last kind that may be taken.
  [[nodiscard]] std::optional<Run> take(Run::Why last);
  // What of the run isn't here may be taken again, behind others of its kind: it may never come.
  void give_back(const Run& run);
  void set_here(std::uint32_t chunk);
  // It was here, and is not what it has to be.
  void set_missing(std::uint32_t chunk);

  [[nodiscard]] bool is_whole();
  // Whether somebody waits for what no one fetches yet.
  [[nodiscard]] bool somebody_waits();
  // Waits, but no longer than until it was stopped or somebody waits for more, nor much longer than
  // `short_wait` where somebody waits for a chunk.
  void pause(std::chrono::milliseconds time, std::chrono::milliseconds short_wait);
  void stop();

 private:
  enum class State : std::uint8_t { kMissing, kTaken, kHere };

  // Where so many chunks end, of those that there are.
  [[nodiscard]] std::uint32_t end_of(std::uint32_t first, std::uint32_t count) const
      PYRAM_REQUIRES(mutex_);
  [[nodiscard]] bool is_missing(std::uint32_t chunk) const PYRAM_REQUIRES(mutex_) {
    return chunk < state_.size() && state_[chunk] == State::kMissing;
  }
  // `rests`: nothing of the background is taken.
  [[nodiscard]] std::optional<Run> take_now(Run::Why last, bool rests) PYRAM_REQUIRES(mutex_);
  template <typename Belongs>
  Run take_from(std::uint32_t first, std::uint32_t most, Run::Why why, const Belongs& belongs)
      PYRAM_REQUIRES(mutex_);
  void drop_what_came() PYRAM_REQUIRES(mutex_);
  [[nodiscard]] bool background_rests() const PYRAM_REQUIRES(mutex_);

  Mutex mutex_;
  std::condition_variable changed_;
  std::vector<State> state_ PYRAM_GUARDED_BY(mutex_);
  std::size_t missing_ PYRAM_GUARDED_BY(mutex_) = 0;  // Or taken.
  std::deque<std::uint32_t> wanted_ PYRAM_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point last_wanted_ PYRAM_GUARDED_BY(mutex_);
  std::deque<std::uint32_t> hot_ PYRAM_GUARDED_BY(mutex_);
  std::vector<bool> is_hot_ PYRAM_GUARDED_BY(mutex_);
  std::deque<std::uint32_t> later_ PYRAM_GUARDED_BY(mutex_);
  std::uint32_t cursor_ PYRAM_GUARDED_BY(mutex_) = 0;
  std::uint64_t wants_ PYRAM_GUARDED_BY(mutex_) = 0;  // Counts what somebody began to wait for.
  bool stopped_ PYRAM_GUARDED_BY(mutex_) = false;
};

}  // namespace pyram::registry
