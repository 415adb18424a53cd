#include "fusefs/memory_limit.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

// Most of these files aren't there, which is no exception: what unwinds one would be read from the
// disk between mount and first answer.
std::optional<std::string> contents(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  try {
    return read_to_end(file.get(), path.native());
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<std::uint64_t> leading_number(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return std::nullopt;
  text.remove_prefix(begin);
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc()) return std::nullopt;
  return number;
}

// The number after NAME at the beginning of a line.
std::optional<std::uint64_t> field(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.starts_with(name)) return leading_number(line.substr(name.size()));
  }
  return std::nullopt;
}

struct Files {
  const char* limit;
  const char* usage;
  const char* cache_1;  // Fields of memory.stat: pages that can be had back.
  const char* cache_2;
};
constexpr Files kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
                          "total_active_file "};
constexpr Files kVersion2{"memory.max", "memory.current", "inactive_file ", "active_file "};

std::uint64_t left_in(const fs::path& group, const Files& files) {
  const auto limit_text = contents(group / files.limit);  // "max" where there is none.
  const auto usage_text = contents(group / files.usage);
  if (!limit_text || !usage_text) return kUnlimited;
  const auto limit = leading_number(*limit_text);
  const auto usage = leading_number(*usage_text);
  if (!limit || !usage) return kUnlimited;
  const std::string statistics = contents(group / "memory.stat").value_or("");
  const std::uint64_t cache =
      field(statistics, files.cache_1).value_or(0) + field(statistics, files.cache_2).value_or(0);
  const std::uint64_t used = *usage - std::min(*usage, cache);
  return *limit - std::min(*limit, used);
}

// The smallest of a group and all above it. In a container the path may be one of the host's,
// which isn't there; then the walk up ends at the hierarchy's root, which is the container's.
std::uint64_t left_under(const fs::path& hierarchy, std::string_view path, const Files& files) {
  std::uint64_t left = left_in(hierarchy, files);
  fs::path group = hierarchy;
  for (const fs::path& part : fs::path(path).relative_path()) {
    group /= part;
    left = std::min(left, left_in(group, files));
  }
  return left;
}

std::uint64_t left_in_control_groups() {
  std::uint64_t left = kUnlimited;
  const std::string groups = contents("/proc/self/cgroup").value_or("");
  std::string_view text = groups;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    // HIERARCHY:CONTROLLERS:PATH; version 2 is "0::PATH".
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view path = line.substr(second + 1);
    if (controllers.empty()) {
      left = std::min(left, left_under("/sys/fs/cgroup", path, kVersion2));
    } else if (controllers == "memory") {
      left = std::min(left, left_under("/sys/fs/cgroup/memory", path, kVersion1));
    }
  }
  return left;
}

}  // namespace

std::uint64_t available_memory() noexcept {
  try {
    std::uint64_t available = kUnlimited;
    if (const auto text = contents("/proc/meminfo")) {
      if (const auto kib = field(*text, "MemAvailable:")) available = *kib * 1024;
    }
    return std::min(available, left_in_control_groups());
  } catch (const std::exception&) {
    return kUnlimited;
  }
}

MemoryPlan plan_memory(std::size_t cache_bytes) noexcept {
  // A server of 256 MiB with a script or two has so much left.
  constexpr std::uint64_t kShort = std::uint64_t{128} << 20;
  constexpr std::uint64_t kCacheShare = 16;
  const std::uint64_t available = available_memory();
  return {.cache_bytes = std::min<std::uint64_t>(cache_bytes, available / kCacheShare),
          .is_short = available < kShort};
}

}  // namespace pyram
