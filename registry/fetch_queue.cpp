#include "registry/fetch_queue.h"

#include <algorithm>

namespace pyram::registry {
namespace {

// In chunks: a run is one request. What somebody waits for has to wait for the runs before it.
constexpr std::uint32_t kMostWanted = 16;
constexpr std::uint32_t kMostHot = 16;
constexpr std::uint32_t kMostBackground = 8;
// How long the background keeps off the line after somebody has begun to wait: a program that
// starts reads again after a few round trips.
constexpr std::chrono::milliseconds kRest{250};

}  // namespace

FetchQueue::FetchQueue(std::vector<bool> here) : state_(here.size()), is_hot_(here.size()) {
  for (std::size_t i = 0; i < here.size(); ++i) {
    state_[i] = here[i] ? State::kHere : State::kMissing;
    if (!here[i]) ++missing_;
  }
}

std::uint32_t FetchQueue::end_of(std::uint32_t first, std::uint32_t count) const {
  const auto size = static_cast<std::uint32_t>(state_.size());
  return first + std::min(count, size - std::min(first, size));
}

void FetchQueue::want(std::uint32_t first, std::uint32_t count) {
  const Lock lock(mutex_);
  const std::uint32_t end = end_of(first, count);
  bool is_new = false;
  for (std::uint32_t chunk = first; chunk < end; ++chunk) {
    if (state_[chunk] == State::kHere || std::ranges::find(wanted_, chunk) != wanted_.end()) {
      continue;
    }
    wanted_.push_back(chunk);
    is_new = true;
  }
  if (!is_new) return;
  ++wants_;
  last_wanted_ = std::chrono::steady_clock::now();
  changed_.notify_all();
}

void FetchQueue::announce(std::uint32_t first, std::uint32_t count) {
  const Lock lock(mutex_);
  const std::uint32_t end = end_of(first, count);
  for (std::uint32_t chunk = first; chunk < end; ++chunk) {
    if (state_[chunk] == State::kHere || is_hot_[chunk]) continue;
    is_hot_[chunk] = true;
    hot_.push_back(chunk);
  }
  changed_.notify_all();
}

void FetchQueue::set_order(const std::vector<std::uint32_t>& hot,
                           std::vector<std::uint32_t> later) {
  const Lock lock(mutex_);
  hot_.insert(hot_.begin(), hot.begin(), hot.end());
  for (const std::uint32_t chunk : hot) {
    if (chunk < is_hot_.size()) is_hot_[chunk] = true;
  }
  later_.assign(later.begin(), later.end());
  changed_.notify_all();
}

std::optional<Run> FetchQueue::take(Run::Why last) {
  Lock lock(mutex_);
  for (;;) {
    if (stopped_) return std::nullopt;
    const bool rests = background_rests();
    if (auto run = take_now(last, rests)) return run;
    if (last == Run::Why::kBackground && rests) {
      changed_.wait_until(lock.waitable(), last_wanted_ + kRest);
    } else {
      changed_.wait(lock.waitable());
    }
  }
}

template <typename Belongs>
Run FetchQueue::take_from(std::uint32_t first, std::uint32_t most, Run::Why why,
                          const Belongs& belongs) {
  // Behind the data comes everything at once, in a request of its own.
  const auto last = static_cast<std::uint32_t>(state_.size()) - 1;
  std::uint32_t end = first + 1;
  while (first != last && end < last && end - first < most && is_missing(end) && belongs(end)) {
    ++end;
  }
  std::fill(state_.begin() + first, state_.begin() + end, State::kTaken);
  return {first, end - first, why};
}

void FetchQueue::drop_what_came() {
  std::erase_if(wanted_, [&](std::uint32_t chunk)
                             PYRAM_REQUIRES(mutex_) { return state_[chunk] == State::kHere; });
}

bool FetchQueue::background_rests() const {
  return std::chrono::steady_clock::now() - last_wanted_ < kRest;
}

std::optional<Run> FetchQueue::take_now(Run::Why last, bool rests) {
  drop_what_came();
  const auto wanted = std::ranges::find_if(
      wanted_, [&](std::uint32_t chunk) PYRAM_REQUIRES(mutex_) { return is_missing(chunk); });
  if (wanted != wanted_.end()) {
    return take_from(*wanted, kMostWanted, Run::Why::kWanted,
                     [&](std::uint32_t chunk) PYRAM_REQUIRES(mutex_) {
                       return std::ranges::find(wanted_, chunk) != wanted_.end();
                     });
  }
  if (last == Run::Why::kWanted) return std::nullopt;
  while (!hot_.empty() && !is_missing(hot_.front())) hot_.pop_front();
  if (!hot_.empty()) {
    return take_from(hot_.front(), kMostHot, Run::Why::kHot,
                     [&](std::uint32_t chunk) PYRAM_REQUIRES(mutex_) { return is_hot_[chunk]; });
  }
  if (last == Run::Why::kHot || rests) return std::nullopt;
  const auto any = [](std::uint32_t) { return true; };
  while (!later_.empty() && !is_missing(later_.front())) later_.pop_front();
  if (!later_.empty()) {
    return take_from(later_.front(), kMostBackground, Run::Why::kBackground, any);
  }
  // On and on: one chunk that can't be had must not keep the others away.
  const auto size = static_cast<std::uint32_t>(state_.size());
  for (std::uint32_t step = 0; step < size; ++step) {
    const std::uint32_t chunk = (cursor_ + step) % size;
    if (!is_missing(chunk)) continue;
    const Run run = take_from(chunk, kMostBackground, Run::Why::kBackground, any);
    cursor_ = (run.first + run.count) % size;
    return run;
  }
  return std::nullopt;
}

void FetchQueue::give_back(const Run& run) {
  const Lock lock(mutex_);
  for (std::uint32_t chunk = run.first; chunk < run.first + run.count; ++chunk) {
    if (state_[chunk] != State::kTaken) continue;
    state_[chunk] = State::kMissing;
    if (std::erase(wanted_, chunk) > 0) wanted_.push_back(chunk);
    std::erase(hot_, chunk);
    if (is_hot_[chunk]) hot_.push_back(chunk);
  }
  changed_.notify_all();
}

void FetchQueue::set_here(std::uint32_t chunk) {
  const Lock lock(mutex_);
  if (state_[chunk] == State::kHere) return;
  state_[chunk] = State::kHere;
  --missing_;
}

void FetchQueue::set_missing(std::uint32_t chunk) {
  const Lock lock(mutex_);
  if (state_[chunk] != State::kHere) return;
  state_[chunk] = State::kMissing;
  ++missing_;
  changed_.notify_all();
}

bool FetchQueue::is_whole() {
  const Lock lock(mutex_);
  return missing_ == 0;
}

bool FetchQueue::somebody_waits() {
  const Lock lock(mutex_);
  return std::ranges::any_of(
      wanted_, [&](std::uint32_t chunk) PYRAM_REQUIRES(mutex_) { return is_missing(chunk); });
}

void FetchQueue::pause(std::chrono::milliseconds time, std::chrono::milliseconds short_wait) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  Lock lock(mutex_);
  const std::uint64_t wants = wants_;
  for (;;) {
    drop_what_came();
    const auto end = start + (wanted_.empty() ? time : std::min(time, short_wait));
    if (stopped_ || wants_ != wants ||
        changed_.wait_until(lock.waitable(), end) == std::cv_status::timeout)
      return;
    if (Clock::now() >= end) return;
  }
}

void FetchQueue::stop() {
  const Lock lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

}  // namespace pyram::registry
