#include "fusefs/cli/status_summary.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <charconv>
#include <map>
#include <string_view>

#include "support/amounts.h"
#include "support/error.h"
#include "support/io.h"
#include "support/text.h"

namespace pyram {
namespace {

std::uint64_t to_number(std::string_view text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// What the daemon answered, by name. What an older daemon doesn't know is empty, or 0.
class Answer {
 public:
  explicit Answer(std::string_view lines) {
    while (!lines.empty()) {
      std::string_view line = take_part(lines, '\n');
      const std::string_view name = take_part(line, '=');
      values_[name] = line;
    }
  }
  [[nodiscard]] std::string_view text(std::string_view name) const {
    const auto value = values_.find(name);
    return value == values_.end() ? std::string_view() : value->second;
  }
  [[nodiscard]] std::uint64_t number(std::string_view name) const { return to_number(text(name)); }

 private:
  std::map<std::string_view, std::string_view> values_;
};

// The two largest units: "2 h 5 min".
std::string duration(std::uint64_t seconds) {
  struct Unit {
    std::uint64_t seconds;
    std::string_view name;
  };
  constexpr Unit kUnits[] = {{86400, " d"}, {3600, " h"}, {60, " min"}, {1, " s"}};
  std::string text;
  int parts = 0;
  for (const Unit& unit : kUnits) {
    const std::uint64_t count = seconds / unit.seconds;
    seconds %= unit.seconds;
    if (parts == 0 && count == 0) continue;
    // Nobody wants the seconds of an hour.
    if (++parts > 2) break;
    if (count == 0) continue;
    text.append(text.empty() ? "" : " ").append(std::to_string(count)).append(unit.name);
  }
  return text.empty() ? "less than a second" : text;
}

std::string read_ahead(const Answer& answer) {
  const std::uint64_t total = answer.number("prefetch_total_bytes");
  const std::uint64_t done = answer.number("prefetch_done_bytes");
  if (total == 0) return "nothing";
  if (done >= total) return "done, " + megabytes(total);
  return megabytes(done) + " of " + megabytes(total);
}

// Of an image that is being fetched.
std::string fetched(const Answer& answer) {
  const std::uint64_t total = answer.number("fetch_total_bytes");
  const std::uint64_t done = answer.number("fetch_done_bytes");
  if (done >= total) return "done, " + megabytes(total);
  std::string text = std::to_string(done * 100 / total) + "%, " + megabytes(done) + " of " +
                     megabytes(total) + ", " + megabytes(answer.number("fetch_rate_bytes")) + "/s";
  if (answer.number("fetch_running") == 0) text += ", but nobody fetches the rest now";
  if (const std::uint64_t errors = answer.number("fetch_errors"); errors > 0) {
    text += "; " + std::to_string(errors) + (errors == 1 ? " failure" : " failures");
    const std::string_view last = answer.text("fetch_last_error");
    if (!last.empty()) text.append(", the last: ").append(escape(last));
  }
  return text;
}

void add_count(std::string& text, std::uint64_t count, std::string_view one,
               std::string_view more) {
  if (count == 0) return;
  text.append(text.empty() ? "" : ", ").append(std::to_string(count)).append(" ");
  text.append(count == 1 ? one : more);
}

std::string trouble(const Answer& answer) {
  std::string text;
  add_count(text, answer.number("errors"), "request failed", "requests failed");
  add_count(text, answer.number("verify_failures"), "read of changed bytes",
            "reads of changed bytes");
  add_count(text, answer.number("worker_restarts"), "restart after a crash",
            "restarts after crashes");
  return text.empty() ? "none" : text;
}

}  // namespace

std::optional<std::uint64_t> waiting_requests(const std::filesystem::path& mount_point) {
  struct stat status {};
  if (::stat(mount_point.c_str(), &status) != 0) return std::nullopt;
  try {
    return to_number(
        read_file("/sys/fs/fuse/connections/" + std::to_string(minor(status.st_dev)) + "/waiting"));
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string summarise_status(const std::string& lines, std::optional<std::uint64_t> waiting) {
  const Answer answer(lines);
  std::string out =
      escape(answer.text("mount_point")) + ": serves " + escape(answer.text("image")) + "\n";
  const auto line = [&out](std::string_view name, const std::string& value) {
    std::string label = "  ";
    label.append(name).resize(14, ' ');
    out.append(label).append(value).append("\n");
  };
  line("up", duration(answer.number("uptime_milliseconds") / 1000) + ", pyram-mount " +
                 escape(answer.text("version")) + ", process " + escape(answer.text("pid")));
  line("memory", megabytes(answer.number("resident_bytes")));
  line("read", megabytes(answer.number("image_read_bytes")) + " of the image, " +
                   megabytes(answer.number("decompressed_bytes")) + " decompressed");
  line("read ahead", read_ahead(answer));
  if (answer.number("fetch_total_bytes") > 0) line("fetched", fetched(answer));
  if (waiting) {
    std::string text;
    add_count(text, *waiting, "request", "requests");
    line("waiting", text.empty() ? "nobody" : text);
  }
  line("trouble", trouble(answer));
  return out + "Everything that is counted: pyram-mount --status --all\n";
}

}  // namespace pyram
