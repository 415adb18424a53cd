#include "launcher/command_line.h"

#include <array>
#include <string>

#include "support/error.h"
#include "support/nearest.h"

namespace pyram::launcher {
namespace {

constexpr std::string_view kImageOption = "--image";
constexpr std::string_view kOwnPrefix = "--pyram-";

bool asks_for_introduction(std::string_view argument) {
  constexpr std::array<std::string_view, 4> kOptions{"--help", "-h", "--version", "-V"};
  for (const std::string_view option : kOptions) {
    if (argument == option) return true;
  }
  return false;
}

// (Cold: no start of a script comes here.)
[[gnu::cold]] Action own_action(std::string_view option) {
  if (option == "--pyram-help") return Action::kHelp;
  if (option == "--pyram-version") return Action::kVersion;
  if (option == "--pyram-doctor") return Action::kDoctor;
  constexpr std::array<std::string_view, 3> kOptions{"--pyram-help", "--pyram-version",
                                                     "--pyram-doctor"};
  throw Error(ExitCode::kUsage,
              "unknown option " + quote(option) + suggestion(option, kOptions) +
                  "; Pyram's own are --image, --toram, --pyram-help, --pyram-version and "
                  "--pyram-doctor");
}

}  // namespace

CommandLine parse_command_line(std::span<char*> arguments) {
  CommandLine result;
  while (!arguments.empty()) {
    const std::string_view argument = arguments.front();
    if (argument == kImageOption) {
      if (arguments.size() < 2 || *arguments[1] == '\0') {
        throw Error(ExitCode::kUsage, "--image needs the name of an image or a file after it");
      }
      result.image = arguments[1];
      arguments = arguments.subspan(2);
    } else if (argument.starts_with(kImageOption) && argument.size() > kImageOption.size() + 1 &&
               argument[kImageOption.size()] == '=') {
      result.image = argument.substr(kImageOption.size() + 1);
      arguments = arguments.subspan(1);
    } else if (argument == "--toram") {
      result.to_ram = true;
      arguments = arguments.subspan(1);
    } else if (argument.starts_with(kOwnPrefix)) {
      result.action = own_action(argument);
      arguments = arguments.subspan(1);
    } else {
      if (result.action == Action::kRun && asks_for_introduction(argument)) {
        result.action = Action::kRunAndIntroduce;
      }
      break;
    }
  }
  result.interpreter_arguments = arguments;
  return result;
}

}  // namespace pyram::launcher
