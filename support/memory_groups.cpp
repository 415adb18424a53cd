#include "support/memory_groups.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <span>

#include "support/unique_fd.h"

namespace pyram {
namespace {

// What one read gives of a file: files of /proc/self/cgroup's kind come as a whole.
std::optional<std::string_view> read_once(const char* path, std::span<char> buffer) noexcept {
  const UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  ssize_t size = 0;
  do {
    size = ::read(file.get(), buffer.data(), buffer.size());
  } while (size < 0 && errno == EINTR);
  if (size < 0) return std::nullopt;
  return std::string_view(buffer.data(), static_cast<std::size_t>(size));
}

// Whether `name` is one of the names in a list with commas.
bool lists(std::string_view list, std::string_view name) noexcept {
  while (list.size() >= name.size()) {
    const std::size_t end = std::min(list.find(','), list.size());
    if (list.substr(0, end) == name) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

std::optional<std::uint64_t> leading_number(std::string_view text) noexcept {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  std::uint64_t result = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), result);
  if (parsed.ec != std::errc()) return std::nullopt;
  return result;
}

// The number after `name` at the beginning of a line.
std::optional<std::uint64_t> field(std::string_view text, std::string_view name) noexcept {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.starts_with(name)) return leading_number(line.substr(name.size()));
  }
  return std::nullopt;
}

}  // namespace

MemoryGroups::MemoryGroups(std::string_view root) noexcept {
  constexpr std::string_view kGroups = "/proc/self/cgroup";
  if (root.size() + kGroups.size() >= path_.size()) return;
  char* const end = std::copy(root.begin(), root.end(), path_.begin());
  *std::copy(kGroups.begin(), kGroups.end(), end) = '\0';
  std::array<char, std::size_t{2} * PATH_MAX> buffer;
  std::string_view text = read_once(path_.data(), buffer).value_or("");
  std::optional<std::string_view> unified;
  // A line that the buffer cut off has no end, and is none.
  for (std::size_t end_of_line; (end_of_line = text.find('\n')) != std::string_view::npos;) {
    // HIERARCHY:CONTROLLERS:PATH; version 2 is "0::PATH".
    const std::string_view line = text.substr(0, end_of_line);
    text.remove_prefix(end_of_line + 1);
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) {
      unified = line.substr(second + 1);
    } else if (lists(controllers, "memory")) {
      // The kernel has a controller in one version only.
      if (set_directory(root, "/sys/fs/cgroup/memory", line.substr(second + 1))) version_ = 1;
      return;
    }
  }
  if (unified && set_directory(root, "/sys/fs/cgroup", *unified)) version_ = 2;
}

bool MemoryGroups::set_directory(std::string_view root, std::string_view hierarchy,
                                 std::string_view group) noexcept {
  constexpr std::size_t kLongestFileName = 64;
  while (group.ends_with('/')) group.remove_suffix(1);
  root_size_ = root.size() + hierarchy.size();
  size_ = root_size_ + group.size();
  if (size_ + kLongestFileName > path_.size()) return false;
  char* end = std::copy(root.begin(), root.end(), path_.begin());
  end = std::copy(hierarchy.begin(), hierarchy.end(), end);
  std::copy(group.begin(), group.end(), end);
  return true;
}

std::optional<std::string_view> MemoryGroups::text(std::string_view file,
                                                   std::span<char> buffer) noexcept {
  if (version_ == 0 || size_ + file.size() + 2 > path_.size()) return std::nullopt;
  path_[size_] = '/';
  *std::copy(file.begin(), file.end(), &path_[size_ + 1]) = '\0';
  return read_once(path_.data(), buffer);
}

std::optional<std::uint64_t> MemoryGroups::number(std::string_view file) noexcept {
  std::array<char, 32> buffer;
  const auto found = text(file, buffer);
  if (!found) return std::nullopt;
  return leading_number(*found).value_or(kUnlimited);
}

std::uint64_t MemoryGroups::limit() noexcept {
  if (version_ == 1) return number("memory.limit_in_bytes").value_or(kUnlimited);
  return std::min(number("memory.max").value_or(kUnlimited),
                  number("memory.high").value_or(kUnlimited));
}

std::uint64_t MemoryGroups::available() noexcept {
  const bool is_first = version_ == 1;
  const std::uint64_t most = limit();
  const std::uint64_t usage =
      number(is_first ? "memory.usage_in_bytes" : "memory.current").value_or(kUnlimited);
  if (most == kUnlimited || usage == kUnlimited) return kUnlimited;
  std::array<char, 8192> buffer;
  const std::string_view statistics = text("memory.stat", buffer).value_or("");
  const std::uint64_t cache =
      field(statistics, is_first ? "total_inactive_file " : "inactive_file ").value_or(0) +
      field(statistics, is_first ? "total_active_file " : "active_file ").value_or(0);
  const std::uint64_t used = usage - std::min(usage, cache);
  return most - std::min(most, used);
}

bool MemoryGroups::go_up() noexcept {
  if (size_ <= root_size_) return false;
  size_ = std::string_view(path_.data(), size_).rfind('/');
  return true;
}

std::uint64_t memory_limit_of_groups(std::string_view root) noexcept {
  std::uint64_t limit = kUnlimited;
  MemoryGroups groups(root);
  if (groups.version() == 0) return limit;
  do {
    limit = std::min(limit, groups.limit());
  } while (groups.go_up());
  return limit;
}

std::uint64_t available_memory(std::string_view root) noexcept {
  constexpr std::string_view kMemory = "/proc/meminfo";
  std::uint64_t available = kUnlimited;
  std::array<char, PATH_MAX> path;
  if (root.size() + kMemory.size() < path.size()) {
    char* const end = std::copy(root.begin(), root.end(), path.begin());
    *std::copy(kMemory.begin(), kMemory.end(), end) = '\0';
    std::array<char, 8192> buffer;
    const std::string_view text = read_once(path.data(), buffer).value_or("");
    if (const auto kib = field(text, "MemAvailable:")) available = *kib * 1024;
  }
  MemoryGroups groups(root);
  if (groups.version() == 0) return available;
  do {
    available = std::min(available, groups.available());
  } while (groups.go_up());
  return available;
}

}  // namespace pyram
