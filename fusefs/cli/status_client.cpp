#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/status.h"
#include "support/error.h"
#include "support/json_text.h"
#include "support/text.h"
#include "support/unique_fd.h"

namespace pyram {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Names of values that only ever grow end in _total for Prometheus.
bool is_gauge(std::string_view name) {
  return name == "threads" || name == "pid" || name == "worker_pid" || name == "resident_bytes" ||
         name.starts_with("cache_bytes") || name.starts_with("cache_capacity") ||
         name.starts_with("prefetch_") || (name.starts_with("fetch_") && name != "fetch_errors") ||
         name.starts_with("uptime_");
}

void write_text(std::string& out, std::string_view name, std::string_view value) {
  std::string label(name);
  std::ranges::replace(label, '_', ' ');
  label.resize(std::max<std::size_t>(label.size(), 26), ' ');
  out.append(label).append(" ").append(value).append("\n");
}

void write_prometheus(std::string& out, std::string_view name, std::string_view value,
                      std::string_view mount_point) {
  if (!is_number(value)) return;
  std::string labels = "{mount=" + json_text(mount_point);
  std::string metric = "pyram_" + std::string(name);
  constexpr std::string_view kRequests = "requests_";
  if (name == "requests") return;  // The sum of those by kind.
  if (name.starts_with(kRequests)) {
    labels += ",kind=" + json_text(name.substr(kRequests.size()));
    metric = "pyram_requests";
  }
  out.append(metric).append(is_gauge(name) ? "" : "_total").append(labels).append("} ");
  out.append(value).append("\n");
}

}  // namespace

std::string query_status(const std::filesystem::path& mount_point) {
  const UniqueFd directory(::open(mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    throw system_error(ExitCode::kBadMountPoint, errno, "open " + quote(mount_point.native()),
                       errno == ENOTCONN ? "the daemon of this mount is dead; unmount it" : "");
  }
  std::vector<char> answer(kStatusSize + 1);
  if (::ioctl(directory.get(), kStatusCommand, answer.data()) != 0) {
    throw Error(ExitCode::kBadMountPoint, "cannot ask " + quote(mount_point.native()) +
                                              " for its status: no image is mounted there by "
                                              "pyram-mount; give a mount point");
  }
  return answer.data();
}

void quiesce(const std::filesystem::path& mount_point) {
  const UniqueFd directory(::open(mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory) static_cast<void>(::ioctl(directory.get(), kQuiesceCommand));
}

void reload_worker(const std::filesystem::path& mount_point) {
  const std::string tried = "cannot reload the daemon of " + quote(mount_point.native()) + ": ";
  const UniqueFd directory(::open(mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    throw Error(ExitCode::kBadMountPoint,
                tried + describe_errno(errno) +
                    (errno == ENOTCONN ? "; it is dead: unmount, and mount again" : ""));
  }
  std::vector<char> why(kReloadSize + 1);
  if (::ioctl(directory.get(), kReloadCommand, why.data()) != 0) {
    throw Error(ExitCode::kBadMountPoint,
                tried + (errno == EPERM ? "only the user who mounted it and root may"
                                        : "no image is mounted there by a pyram-mount that can do "
                                          "it; give a mount point"));
  }
  if (why[0] != '\0') throw Error(ExitCode::kFailed, tried + why.data());
}

std::string format_status(const std::string& lines, StatusFormat format) {
  std::string out;
  std::string_view mount_point;
  std::string_view separator = "{";
  for (std::string_view rest = lines; !rest.empty();) {
    const std::string_view line = take_part(rest, '\n');
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = line.substr(0, equals);
    const std::string_view value = line.substr(equals + 1);
    if (name == "mount_point") mount_point = value;
    switch (format) {
      case StatusFormat::kSummary:
      case StatusFormat::kText:
        write_text(out, name, value);
        break;
      case StatusFormat::kJson:
        out.append(separator).append("\n  ").append(json_text(name)).append(": ");
        out.append(is_number(value) ? std::string(value) : json_text(value));
        separator = ",";
        break;
      case StatusFormat::kPrometheus:
        write_prometheus(out, name, value, mount_point);
        break;
    }
  }
  if (format == StatusFormat::kJson) out += "\n}\n";
  return out;
}

}  // namespace pyram
