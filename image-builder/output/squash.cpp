#include "image-builder/output/squash.h"

#include <unistd.h>

#include <charconv>
#include <string_view>
#include <utility>

#include "support/error.h"
#include "support/process.h"

namespace pyram::builder {
namespace {

void run_mksquashfs(std::vector<std::string> arguments, const std::filesystem::path& file,
                    const std::function<void(double)>& step = {}) {
  Command command;
  command.arguments = std::move(arguments);
  command.arguments.emplace_back(step ? "-progress" : "-no-progress");
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
