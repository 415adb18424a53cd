#include "image-builder/output/squash.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "support/error.h"
#include "support/memory_groups.h"
#include "support/process.h"

namespace pyram::builder {
namespace {

void run_mksquashfs(std::vector<std::string> arguments, const std::filesystem::path& file,
                    const std::function<void(double)>& step = {}) {
  Command command;
  command.arguments = std::move(arguments);
  command.arguments.emplace_back(step ? "-progress" : "-no-progress");
  const std::vector<std::string> memory = memory_options();
  command.arguments.insert(command.arguments.end(), memory.begin(), memory.end());
  std::string said_of_progress;
  if (step) {
    command.follow = [&](std::string_view part) {
      said_of_progress.append(part);
      if (const auto done = last_percentage(said_of_progress)) step(*done);
    };
  }
  // mksquashfs refuses its options for times while this variable is set.
  command.environment.emplace();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("SOURCE_DATE_EPOCH=")) {
      command.environment->emplace_back(*entry);
    }
  }
  const Outcome outcome = run(command);
  if (!outcome.ok()) {
    // It says what went wrong first and that it gives up last. Behind a bar is an empty line.
    const std::size_t begin = outcome.errors.find_first_not_of('\n');
    std::string said = begin == std::string::npos
                           ? outcome.last_line()
                           : outcome.errors.substr(begin, outcome.errors.find('\n', begin) - begin);
    throw Error(ExitCode::kCannotWrite, "cannot write the image " + quote(file.native()) +
                                            ": mksquashfs ended with " +
                                            std::to_string(outcome.status) + ": " + said);
  }
}

}  // namespace

void make_squashfs(const std::filesystem::path& tree, const std::filesystem::path& file,
                   const SquashOptions& options) {
  const std::string time = std::to_string(options.time);
  std::vector<std::string> arguments = {
      "mksquashfs",       tree.native(), file.native(),
      "-noappend",        "-quiet",      "-all-root",
      "-no-xattrs",       "-mkfs-time",  time,
      "-all-time",        time,          "-comp",
      options.compressor, "-b",          std::to_string(options.block_size)};
  if (options.compressor == "zstd") {
    arguments.insert(arguments.end(), {"-Xcompression-level", std::to_string(options.level)});
  }
  if (!options.sort_file.empty()) {
    arguments.insert(arguments.end(), {"-sort", options.sort_file.native()});
  }
  run_mksquashfs(std::move(arguments), file, options.step);
}

std::vector<std::string> memory_options(std::uint64_t limit, std::uint64_t memory,
                                        std::uint64_t processors) {
  constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
  constexpr std::uint64_t kShare = 4;             // As mksquashfs takes of a machine's memory.
  constexpr std::uint64_t kLeastMiB = 16;         // Some blocks for each of its buffers.
  constexpr std::uint64_t kPerProcessorMiB = 64;  // Two of its threads, and what they wait for.
  if (limit >= memory) return {};
  const std::uint64_t mib = limit / kMiB;
  std::vector<std::string> options = {"-mem",
                                      std::to_string(std::max(kLeastMiB, mib / kShare)) + "M"};
  const std::uint64_t affordable = std::max<std::uint64_t>(1, mib / kPerProcessorMiB);
  if (affordable < processors) {
    options.insert(options.end(), {"-processors", std::to_string(affordable)});
  }
  return options;
}

std::vector<std::string> memory_options() {
  const auto number = [](int name) {
    return static_cast<std::uint64_t>(std::max(1L, ::sysconf(name)));
  };
  cpu_set_t usable;
  const bool known = ::sched_getaffinity(0, sizeof usable, &usable) == 0;
  return memory_options(
      memory_limit_of_groups(), number(_SC_PHYS_PAGES) * number(_SC_PAGESIZE),
      known ? static_cast<std::uint64_t>(CPU_COUNT(&usable)) : number(_SC_NPROCESSORS_ONLN));
}

std::optional<double> last_percentage(std::string& text) {
  const std::size_t percent = text.rfind('%');
  if (percent == std::string::npos) return std::nullopt;
  const std::size_t before = text.find_last_not_of("0123456789", percent == 0 ? 0 : percent - 1);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  int number = -1;
  std::from_chars(text.data() + begin, text.data() + percent, number);
  text.erase(0, percent + 1);
  if (number < 0 || number > 100) return std::nullopt;
  return number / 100.0;
}

void append_to_squashfs(const std::filesystem::path& tree, const std::filesystem::path& file,
                        std::int64_t time) {
  const std::string text = std::to_string(time);
  // The image is a copy of ours: what a failure leaves of it is removed.
  run_mksquashfs({"mksquashfs", tree.native(), file.native(), "-no-recovery", "-quiet", "-all-root",
                  "-no-xattrs", "-mkfs-time", text, "-all-time", text},
                 file);
}

}  // namespace pyram::builder
