// pyram's command line: Pyram's own options come first, everything after them is PyPy's.
//
//   pyram [--image NAME|FILE] [--toram] [PyPy's options] [SCRIPT [ARGUMENT...]]
//
// Arguments are bytes, never text: nothing here decodes, copies or changes what PyPy will get.
#pragma once

#include <optional>
#include <span>
#include <string_view>

namespace pyram::launcher {

enum class Action {
  kRun,              // Become the interpreter.
  kRunAndIntroduce,  // --help or --version: run the interpreter, then add Pyram's own line.
  kHelp,             // --pyram-help
  kVersion,          // --pyram-version
  kDoctor            // --pyram-doctor
};

struct CommandLine {
  Action action = Action::kRun;
  std::optional<std::string_view> image;  // As given: a name or a file.
  bool to_ram = false;
  std::span<char*> interpreter_arguments;  // Borrowed from argv.
};

// `arguments` is argv without argv[0]. Throws Error (kUsage) about an option of Pyram's that is
// unknown or lacks its value.
[[nodiscard]] CommandLine parse_command_line(std::span<char*> arguments);

}  // namespace pyram::launcher
