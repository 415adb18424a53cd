#include "launcher/collector.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "support/collector_defaults.h"
#include "support/image_layout.h"
#include "support/memory_groups.h"

namespace pyram::launcher {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// What they cost and save: docs/launcher.md, "Memory".
// PYPY_GC_MAX_DELTA is an eighth of the memory, as PyPy has it of the machine's.
constexpr std::array kSteps{
    CollectorStep{128 * kMiB, "1M", "16M", "1.4", nullptr},
    CollectorStep{256 * kMiB, "2M", "32M", "1.4", nullptr},
    CollectorStep{512 * kMiB, kUsualNursery, "64M", "1.4", nullptr},
    CollectorStep{1024 * kMiB, kUsualNursery, "128M", "1.6", nullptr},
    CollectorStep{kUnlimited, kUsualNursery, nullptr, nullptr, kUsualTunables},
};
constexpr std::uint64_t kSmall = 256 * kMiB;

struct Variable {
  const char* name;
  const char* CollectorStep::*value;
};
constexpr std::array kVariables{
    Variable{"PYPY_GC_NURSERY", &CollectorStep::nursery},
    Variable{"PYPY_GC_MAX_DELTA", &CollectorStep::max_delta},
    Variable{"PYPY_GC_MAJOR_COLLECT", &CollectorStep::major_collect},
    Variable{"GLIBC_TUNABLES", &CollectorStep::tunables},
};

// What an image without our start-up code left of an earlier start is ours, not the user's.
void forget_added() noexcept {
  const char* const added = std::getenv(layout::kAddedVariables);
  if (added == nullptr) return;
  for (const Variable& variable : kVariables) {
    if (std::strstr(added, variable.name) != nullptr) ::unsetenv(variable.name);
  }
  ::unsetenv(layout::kAddedVariables);
}

}  // namespace

MemoryLimit memory_limit(std::string_view root) noexcept {
  MemoryLimit result{kUnlimited, false};
  struct sysinfo machine {};
  if (::sysinfo(&machine) == 0) {
    result.bytes = std::uint64_t{machine.totalram} * machine.mem_unit;
  }
  if (const std::uint64_t of_groups = memory_limit_of_groups(root); of_groups < result.bytes) {
    result = {of_groups, true};
  }
  return result;
}

const CollectorStep* collector_step(Memory wanted, std::uint64_t limit) noexcept {
  if (wanted == Memory::kDefault) return nullptr;
  if (wanted == Memory::kSmall) limit = std::min(limit, kSmall);
  for (const CollectorStep& step : kSteps) {
    if (limit <= step.at_most) return &step;
  }
  return nullptr;
}

void set_collector(Memory wanted) noexcept {
  forget_added();
  if (wanted == Memory::kDefault) return;
  const CollectorStep* const step = collector_step(wanted, memory_limit().bytes);
  if (step == nullptr) return;
  std::array<char, 128> added;  // Long enough for all of them.
  std::size_t size = 0;
  for (const Variable& variable : kVariables) {
    if (step->*variable.value == nullptr || std::getenv(variable.name) != nullptr) continue;
    ::setenv(variable.name, step->*variable.value, 0);
    if (size != 0) added[size++] = ',';
    size += std::string_view(variable.name).copy(&added[size], added.size() - size - 1);
  }
  added[size] = '\0';
  if (size != 0) ::setenv(layout::kAddedVariables, added.data(), 1);
}

std::string describe_collector(Memory wanted) {
  const MemoryLimit limit = memory_limit();
  std::string text;
  if (limit.bytes == kUnlimited) {
    text = "no limit is known";
  } else {
    text = std::to_string(limit.bytes / kMiB) +
           (limit.of_group ? " MiB, a control group's limit" : " MiB, all that the machine has");
  }
  const CollectorStep* const step = collector_step(wanted, limit.bytes);
  if (wanted != Memory::kAuto) text.append("; PYRAM_MEMORY=").append(name_of(wanted));
  if (step == nullptr || step->nursery == nullptr) text += "; PyPy's own sizes";
  if (step == nullptr) return text;
  const char* separator = "; ";
  for (const Variable& variable : kVariables) {
    if (step->*variable.value == nullptr) continue;
    const char* const own = std::getenv(variable.name);
    text.append(separator).append(variable.name);
    separator = ", ";
    text.append("=").append(own != nullptr ? own : step->*variable.value);
    if (own != nullptr) text.append(" (yours)");
  }
  return text;
}

}  // namespace pyram::launcher
