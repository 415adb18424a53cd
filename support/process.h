// Running other programs (mksquashfs, apt-get, fusermount3, ...).
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/exit_code.h"

namespace pyram {

struct Command {
  std::vector<std::string> arguments;                     // arguments[0] is looked up in PATH.
  std::optional<std::vector<std::string>> environment{};  // "NAME=value"; ours when not given.
  std::optional<std::filesystem::path> directory{};       // Where it runs; ours when not given.
  bool quiet = true;  // Output is captured; otherwise stdout and stderr are ours.
  std::function<void(std::string_view)> follow{};  // Gets captured stdout as it comes, too.
};

struct Outcome {
  int status = 0;      // The exit code, or 128 + N when signal N ended it.
  std::string output;  // stdout, when captured.
  std::string errors;  // stderr, when captured.
  [[nodiscard]] bool ok() const { return status == 0; }
  // The last line of `errors` (or of `output` where that is empty) that is not blank.
  [[nodiscard]] std::string last_line() const;
};

// Runs a command to its end, stdin from /dev/null, no descriptor leaked into it.
// Throws Error (kMissingTool) when the program cannot be started.
[[nodiscard]] Outcome run(const Command& command);

// As run(), and throws Error (`code`) with the command's own last line when it fails.
std::string run_or_throw(const Command& command, ExitCode code, std::string_view tried);

// The path of a program in PATH, if there is one.
[[nodiscard]] std::optional<std::filesystem::path> find_program(std::string_view name);

}  // namespace pyram
