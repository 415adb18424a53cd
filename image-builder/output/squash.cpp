#include "image-builder/output/squash.h"

#include <unistd.h>

#include <utility>

#include "support/error.h"
#include "support/process.h"

namespace pyram::builder {
namespace {

void run_mksquashfs(std::vector<std::string> arguments, const std::filesystem::path& file) {
  Command command;
  command.arguments = std::move(arguments);
  // mksquashfs refuses its options for times while this variable is set.
  command.environment.emplace();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("SOURCE_DATE_EPOCH=")) {
      command.environment->emplace_back(*entry);
    }
  }
  const Outcome outcome = run(command);
  if (!outcome.ok()) {
    // It says what went wrong first and that it gives up last.
    std::string said = outcome.errors.substr(0, outcome.errors.find('\n'));
    if (said.empty()) said = outcome.last_line();
    throw Error(ExitCode::kCannotWrite, "cannot write the image " + quote(file.native()) +
                                            ": mksquashfs ended with " +
                                            std::to_string(outcome.status) + ": " + said);
  }
}

}  // namespace

void make_squashfs(const std::filesystem::path& tree, const std::filesystem::path& file,
                   const SquashOptions& options) {
  const std::string time = std::to_string(options.time);
  std::vector<std::string> arguments = {"mksquashfs",   tree.native(),
                                        file.native(),  "-noappend",
                                        "-no-progress", "-quiet",
                                        "-all-root",    "-no-xattrs",
                                        "-mkfs-time",   time,
                                        "-all-time",    time,
                                        "-comp",        options.compressor,
                                        "-b",           std::to_string(options.block_size)};
  if (options.compressor == "zstd") {
    arguments.insert(arguments.end(), {"-Xcompression-level", std::to_string(options.level)});
  }
  if (!options.sort_file.empty()) {
    arguments.insert(arguments.end(), {"-sort", options.sort_file.native()});
  }
  run_mksquashfs(std::move(arguments), file);
}

void append_to_squashfs(const std::filesystem::path& tree, const std::filesystem::path& file,
                        std::int64_t time) {
  const std::string text = std::to_string(time);
  // The image is a copy of ours: what a failure leaves of it is removed.
  run_mksquashfs({"mksquashfs", tree.native(), file.native(), "-no-recovery", "-no-progress",
                  "-quiet", "-all-root", "-no-xattrs", "-mkfs-time", text, "-all-time", text},
                 file);
}

}  // namespace pyram::builder
