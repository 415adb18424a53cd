#include "registry/patience.h"

#include <algorithm>
#include <random>
#include <thread>

namespace pyram::registry {
namespace {

constexpr std::chrono::milliseconds kFirstWait{250};
constexpr std::chrono::milliseconds kLongestWait{8000};
constexpr std::chrono::seconds kLongestAsked{60};
constexpr std::uint64_t kEnough = std::uint64_t{1} << 20;

}  // namespace

bool Patience::wait(std::chrono::seconds asked) {
  if (used_ >= retries_) return false;
  const auto longest = std::min(kFirstWait * (1U << std::min(used_, 8U)), kLongestWait);
  ++used_;
  std::random_device chance;
  const auto waited =
      std::uniform_int_distribution<std::int64_t>(longest.count() / 2, longest.count())(chance);
  std::this_thread::sleep_for(std::max<std::chrono::milliseconds>(std::chrono::milliseconds(waited),
                                                                  std::min(asked, kLongestAsked)));
  return true;
}

void Patience::progressed(std::uint64_t bytes) {
  bytes_ += bytes;
  if (bytes_ < kEnough) return;
  bytes_ = 0;
  used_ = 0;
}

}  // namespace pyram::registry
