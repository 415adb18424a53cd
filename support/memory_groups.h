// The memory control groups of this process (cgroup version 1 or 2), from its own group to the
// topmost one that can be seen. For the start of a program: a few system calls and no allocation.
// An object belongs to one thread. Nothing throws: what can't be read isn't there.
#pragma once

#include <array>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace pyram {

inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

class MemoryGroups {
 public:
  // Reads /proc/self/cgroup. `root` stands in front of /proc and /sys, for tests.
  explicit MemoryGroups(std::string_view root = {}) noexcept;

  // 1 or 2, or 0 where no control group counts memory.
  [[nodiscard]] int version() const noexcept { return version_; }

  // The number, in bytes, at the beginning of a file of the current group; kUnlimited where there
  // is another text ("max"); nothing where there is no such file. That is no error: in a container
  // the group's path may be one of the host's, which isn't there.
  [[nodiscard]] std::optional<std::uint64_t> number(std::string_view file) noexcept;

  // The limit of the current group, in bytes: memory.limit_in_bytes, or the smaller one of
  // memory.max and memory.high, above which the kernel takes pages back. kUnlimited where there is
  // none.
  [[nodiscard]] std::uint64_t limit() noexcept;

  // Bytes that the current group can still take: its limit less what it uses, where file pages
  // count as free. kUnlimited where there is no limit.
  [[nodiscard]] std::uint64_t available() noexcept;

  // Makes the group above the current one. False at the hierarchy's root.
  [[nodiscard]] bool go_up() noexcept;

 private:
  [[nodiscard]] bool set_directory(std::string_view root, std::string_view hierarchy,
                                   std::string_view group) noexcept;
  // The beginning of a file of the current group, as much as `buffer` takes.
  [[nodiscard]] std::optional<std::string_view> text(std::string_view file,
                                                     std::span<char> buffer) noexcept;

  int version_ = 0;
  std::size_t root_size_ = 0;  // Of the hierarchy's root, a beginning of `path_`.
  std::size_t size_ = 0;       // Of the current group's directory, without a '/' at the end.
  std::array<char, PATH_MAX + 1> path_;  // Filled as far as `size_` says.
};

// The smallest limit of all groups, in bytes; kUnlimited where there is none.
[[nodiscard]] std::uint64_t memory_limit_of_groups(std::string_view root = {}) noexcept;

// Bytes that can be taken without swapping: what the kernel says of the machine (MemAvailable in
// /proc/meminfo), or less where a control group has a limit. Cached file pages count as free.
[[nodiscard]] std::uint64_t available_memory(std::string_view root = {}) noexcept;

}  // namespace pyram
