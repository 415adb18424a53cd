// A memory control group of a test's own (version 1 or 2).
#pragma once

#include <cstdint>
#include <filesystem>

#include "support/process.h"

namespace pyram::test {

// Exists where root may make one; for a test that can't run otherwise, exists() says so. The
// processes that are left in it are killed at the end.
class MemoryGroup {
 public:
  explicit MemoryGroup(std::uint64_t limit);
  ~MemoryGroup();
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;

  [[nodiscard]] bool exists() const { return !directory_.empty(); }
  // The command as one that enters the group first.
  [[nodiscard]] Command inside(Command command) const;
  // This process enters it, and stays in it.
  void enter() const;
  // How often the kernel killed a process in it for lack of memory.
  [[nodiscard]] std::uint64_t kills() const;

 private:
  std::filesystem::path directory_;
  bool is_first_ = false;  // Of version 1.
};

}  // namespace pyram::test
