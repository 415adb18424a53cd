#include "fusefs/supervise/resume_state.h"

#include <linux/fuse.h>

#include <algorithm>
#include <cstring>

namespace pyram {

namespace {

// Whether an INIT says that the kernel can send requests again.
bool says_resend(std::span<const std::byte> init) {
  // FUSE_HAS_RESEND of Linux 6.9, bit 39 of the flags, of which the upper half is a field of its
  // own. Newer than Debian 12's headers.
  constexpr std::size_t kUpperFlags = sizeof(fuse_in_header) + 16;
  constexpr std::uint32_t kHasResend = 1U << (39 - 32);
  std::uint32_t flags = 0;
  if (init.size() < kUpperFlags + sizeof(flags)) return false;
  std::memcpy(&flags, &init[kUpperFlags], sizeof(flags));
  return (flags & kHasResend) != 0;
}

}  // namespace

void ResumeState::save_init(std::span<const std::byte> request) {
  const std::size_t size = std::min(request.size(), init_.size());
  std::copy_n(request.begin(), size, init_.begin());
  // An INIT longer than what we keep is one with fields that we don't know: cut, it is sound.
  const auto length = static_cast<std::uint32_t>(size);
  std::memcpy(&init_[offsetof(fuse_in_header, len)], &length, sizeof(length));
  init_size_.store(length);
  resends_.store(says_resend(std::span(init_).first(size)), std::memory_order_relaxed);
}

std::span<const std::byte> ResumeState::init() const {
  return std::span(init_).first(std::min<std::size_t>(init_size_.load(), init_.size()));
}

std::uint64_t ResumeState::init_id() const {
  std::uint64_t id = 0;
  std::memcpy(&id, &init_[offsetof(fuse_in_header, unique)], sizeof(id));
  return id;
}

// The kernel counts requests up by two: so the slots of those in flight rarely meet.
void ResumeState::begin(std::uint64_t request) {
  for (std::size_t i = 0; i < kMostInFlight; ++i) {
    std::uint64_t free = 0;
    auto& slot = in_flight_[(request / 2 + i) % kMostInFlight];
    if (slot.compare_exchange_strong(free, request, std::memory_order_relaxed)) return;
  }
}

void ResumeState::end(std::uint64_t request) {
  for (std::size_t i = 0; i < kMostInFlight; ++i) {
    auto& slot = in_flight_[(request / 2 + i) % kMostInFlight];
    if (slot.load(std::memory_order_relaxed) != request) continue;
    slot.store(0, std::memory_order_relaxed);
    return;
  }
}

std::vector<std::uint64_t> ResumeState::take_in_flight() {
  std::vector<std::uint64_t> result;
  for (auto& slot : in_flight_) {
    if (const std::uint64_t request = slot.exchange(0); request != 0) result.push_back(request);
  }
  for (Header& header : headers_) {
    static_assert(sizeof(fuse_in_header) == kHeaderSize);
    std::uint64_t request = 0;
    std::memcpy(&request, &header[offsetof(fuse_in_header, unique)], sizeof(request));
    if (request != 0) result.push_back(request);
    header.fill({});
  }
  return result;
}

}  // namespace pyram
