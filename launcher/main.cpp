// The boundary: what goes wrong becomes one line on stderr and exit code 125.
#include <sys/auxv.h>
#include <unistd.h>

#include <exception>
#include <span>
#include <string>

#include "launcher/collector.h"
#include "launcher/command_line.h"
#include "launcher/doctor.h"
#include "launcher/executable.h"
#include "launcher/help.h"
#include "launcher/image_search.h"
#include "launcher/interpreter.h"
#include "launcher/mounts.h"
#include "launcher/preload.h"
#include "launcher/settings.h"
#include "launcher/system.h"
#include "launcher/virtual_environment.h"
#include "support/error.h"
#include "support/image_layout.h"

namespace {

using namespace pyram;
using namespace pyram::launcher;

int start(const CommandLine& command_line, Executable self) {
  const Settings settings = read_settings();
  std::optional<std::string_view> wanted = command_line.image;
  if (!wanted && settings.image) wanted = *settings.image;
  const auto environment = find_virtual_environment(self.called_as);
  if (environment) {
    self.home = environment->home;
    if (!wanted && !environment->image.empty()) wanted = environment->image;
  }
  if (command_line.action == Action::kDoctor) {
    return examine(wanted, settings, self, command_line.interpreter_arguments);
  }
  const ChosenImage image = find_image(wanted, self);
  const Root root = provide_root(image, settings, self);
  if (command_line.to_ram) read_everything(root.path);

  // sys.executable goes through the launcher, so that what a script writes down (a virtual
  // environment, a #! line) is valid after the mount has gone. An image that was named on the
  // command line is the exception: only a path into its mount leads to that image again.
  const std::string called_as =
      command_line.image ? root.path + '/' + layout::kInterpreter : self.called_as;
  set_collector(settings.memory);
  int error = 0;
  if (command_line.action == Action::kRunAndIntroduce) {
    const InterpreterEnd end =
        run_interpreter(root.path, called_as, command_line.interpreter_arguments);
    if (end.error == 0) {
      print_line(STDOUT_FILENO, kIntroduction);
      return end.status;
    }
    error = end.error;
  } else {
    error = become_interpreter(root.path, called_as, command_line.interpreter_arguments);
  }
  throw system_error(ExitCode::kLauncherFailed, error,
                     "start the interpreter of " + quote(image.path));
}

int run(std::span<char*> argv) {
  // The environment chooses the image, the daemon and thereby the code that runs.
  if (::getauxval(AT_SECURE) != 0) {
    throw Error(ExitCode::kLauncherFailed,
                "refusing to run with more rights than the caller has (set-uid, set-gid or file "
                "capabilities); remove them from the program");
  }
  const CommandLine command_line = parse_command_line(argv.empty() ? argv : argv.subspan(1));
  switch (command_line.action) {
    case Action::kHelp:
      print_line(STDOUT_FILENO, kHelp);
      return 0;
    case Action::kVersion:
      print_line(STDOUT_FILENO, kVersionLine);
      return 0;
    case Action::kDoctor:
    case Action::kRun:
    case Action::kRunAndIntroduce:
      break;
  }
  return start(command_line, find_executable(argv.empty() ? nullptr : argv[0]));
}

}  // namespace

int main(int argc, char* argv[]) {
  try {
    return run(std::span(argv, static_cast<std::size_t>(argc)));
  } catch (const std::exception& error) {
    pyram::launcher::print_line(STDERR_FILENO, std::string("pyram: ") + error.what());
  }
  return static_cast<int>(pyram::ExitCode::kLauncherFailed);
}
