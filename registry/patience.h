// When something failed: whether to try again, and after how long a wait.
#pragma once

#include <chrono>
#include <cstdint>

namespace pyram::registry {

// Waits twice as long each time, and by chance something between half of it and all of it: a
// thousand servers that lost one registry must not come back in step. Not thread-safe.
class Patience {
 public:
  explicit Patience(unsigned retries) : retries_(retries) {}

  // Waits, or returns false when that was done often enough. `asked`: how long a server asked to
  // be left alone (bounded here).
  [[nodiscard]] bool wait(std::chrono::seconds asked = std::chrono::seconds(0));
  // So much has come through: after a mebibyte the count begins anew. So a transfer over a bad
  // line ends, and one that gets nowhere ends too.
  void progressed(std::uint64_t bytes);

 private:
  unsigned retries_;
  unsigned used_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace pyram::registry
