// Settings of PyPy's garbage collector that fit the memory of the machine or control group.
//
// PyPy sizes its nursery by the processor's cache and its heap by the machine's memory, and never
// looks at a control group. It reads PYPY_GC_* from the environment before any Python runs, and the
// C library reads GLIBC_TUNABLES. So the launcher adds these variables, and the image's start-up
// code takes them away again: neither the script nor its children see them.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/settings.h"

namespace pyram::launcher {

struct MemoryLimit {
  std::uint64_t bytes = 0;
  bool of_group = false;  // Of a control group; else all that the machine has.
};

// The memory that programs of this process may take. Where nothing can be read there is no limit.
// `root` stands in front of /proc and /sys, for tests.
[[nodiscard]] MemoryLimit memory_limit(std::string_view root = {}) noexcept;

// Values as PyPy and the C library take them; null: the variable is not set.
struct CollectorStep {
  std::uint64_t at_most;  // Bytes of memory up to which this is the step to take.
  const char* nursery;
  const char* max_delta;
  const char* major_collect;
  const char* tunables;
};

// Null: nothing is to be set.
[[nodiscard]] const CollectorStep* collector_step(Memory wanted, std::uint64_t limit) noexcept;

// Adds the settings to this process's environment, and one variable that names what was added.
// A variable that is there stays as it is, and is the script's to see. Not thread-safe.
void set_collector(Memory wanted) noexcept;

// For a person: the limit, and which settings follow.
[[nodiscard]] std::string describe_collector(Memory wanted);

}  // namespace pyram::launcher
