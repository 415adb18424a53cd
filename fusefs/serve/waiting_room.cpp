#include "fusefs/serve/waiting_room.h"

#include <utility>

namespace pyram {
namespace {

constexpr std::chrono::seconds kAskAgain{1};
constexpr std::chrono::milliseconds kSlice{200};

thread_local std::optional<ByteRange> missing;

}  // namespace

WaitingRoom::WaitingRoom(const PartialImage& partial, Process process,
                         std::function<void()> asked_in_vain)
    : partial_(partial), process_(std::move(process)), asked_in_vain_(std::move(asked_in_vain)) {}

void WaitingRoom::start() {
  thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
}

void WaitingRoom::stop() {
  thread_.request_stop();
  partial_.wake_waiters();
  if (thread_.joinable()) thread_.join();
}

void WaitingRoom::set_missing(ByteRange range) { missing = range; }

std::optional<ByteRange> WaitingRoom::try_to_process(std::span<std::byte> request,
                                                     Absent when_absent) const {
  const WhenAbsent absent(when_absent);
  missing.reset();
  process_(request);
  return std::exchange(missing, std::nullopt);
}

void WaitingRoom::process_or_keep(std::span<std::byte> request) {
  const auto range = try_to_process(request, Absent::kThrow);
  if (!range) return;
  const auto now = Clock::now();
  partial_.ask_for(*range);
  keep({{request.begin(), request.end()}, *range, now, now});
  // What was missing may have come between the two.
  partial_.wake_waiters();
}

void WaitingRoom::keep(Kept kept) {
  const Lock lock(mutex_);
  kept_.push_back(std::move(kept));
  came_.notify_one();
}

bool WaitingRoom::is_late(const Kept& kept, Clock::time_point now) const {
  return partial_.patience().count() > 0 && now - kept.came >= partial_.patience();
}

std::list<WaitingRoom::Kept> WaitingRoom::take_ready() {
  const auto now = Clock::now();
  bool in_vain = false;
  std::list<Kept> ready;
  {
    const Lock lock(mutex_);
    for (auto place = kept_.begin(); place != kept_.end();) {
      const auto current = place++;
      if (partial_.is_here(current->missing) || is_late(*current, now)) {
        ready.splice(ready.end(), kept_, current);
      } else if (now - current->asked >= kAskAgain) {
        // The fetcher may be a new one.
        partial_.ask_for(current->missing);
        current->asked = now;
        in_vain = true;
      }
    }
  }
  if (in_vain) asked_in_vain_();
  return ready;
}

void WaitingRoom::work(const std::stop_token& stop) {
  for (;;) {
    {
      Lock lock(mutex_);
      came_.wait(lock.waitable(), stop, [&]() PYRAM_REQUIRES(mutex_) { return !kept_.empty(); });
    }
    if (stop.stop_requested()) return;
    const std::uint32_t seen = partial_.changes();
    std::list<Kept> ready = take_ready();
    for (Kept& kept : ready) {
      if (stop.stop_requested()) return;
      const bool late = is_late(kept, Clock::now());
      const auto range = try_to_process(kept.request, late ? Absent::kFail : Absent::kThrow);
      if (!range) continue;
      // Other bytes are missing now; the time goes on.
      kept.missing = *range;
      kept.asked = Clock::now();
      partial_.ask_for(*range);
      keep(std::move(kept));
    }
    if (ready.empty()) partial_.wait_for_change(seen, kSlice);
  }
}

}  // namespace pyram
