// A bundle: pyram with an image of its own, and the daemon of that image.
//
// It is called as pyram is, or, by itself, as pyram-mount with kBundleDaemon among the first
// arguments. The image is in the file itself.
#include <sys/auxv.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/cli/program.h"
#include "launcher/collector.h"
#include "launcher/executable.h"
#include "launcher/image_search.h"
#include "launcher/interpreter.h"
#include "launcher/mounts.h"
#include "launcher/settings.h"
#include "launcher/system.h"
#include "packaging/bundle/own_image.h"
#include "support/bundle_layout.h"
#include "support/error.h"
#include "support/image_layout.h"

namespace {

using namespace pyram;
using namespace pyram::launcher;

// The launcher puts its own options (-f, --ready-fd N) first, and a supervisor --worker N before.
constexpr std::size_t kDaemonWithin = 8;

int serve(std::span<char*> argv, std::span<char*>::iterator marker) {
  std::vector<char*> rest(argv.begin(), marker);
  rest.insert(rest.end(), marker + 1, argv.end());
  const int count = static_cast<int>(rest.size());
  rest.push_back(nullptr);
  return mount_program(count, rest.data());
}

int start(std::span<char*> argv) {
  if (::getauxval(AT_SECURE) != 0) {
    throw Error(ExitCode::kLauncherFailed,
                "refusing to run with more rights than the caller has (set-uid, set-gid or file "
                "capabilities); remove them from the program");
  }
  Executable self = find_executable(argv.empty() ? nullptr : argv[0]);
  if (self.file.empty()) {
    throw Error(ExitCode::kLauncherFailed, "cannot find this program's own file; mount /proc");
  }
  self.daemon = {self.file, kBundleDaemon};
  ChosenImage image = find_image(self.file, self);
  image.offset = bundle::image_offset(self.file);
  const Settings settings = read_settings();
  const Root root = provide_root(image, settings, self);

  const std::string application = root.path + '/' + kBundleApplication;
  std::string first = application;
  std::vector<char*> arguments(argv.begin() + (argv.empty() ? 0 : 1), argv.end());
  if (::access((application + "/__main__.py").c_str(), F_OK) == 0) {
    arguments.insert(arguments.begin(), first.data());
  }
  // A child that is to be another interpreter is not to be the application again.
  const std::string interpreter = root.path + '/' + layout::kInterpreter;
  set_collector(settings.memory);
  const int error = become_interpreter(root.path, interpreter, arguments);
  throw system_error(ExitCode::kLauncherFailed, error,
                     "start the interpreter of " + quote(image.path));
}

}  // namespace

int main(int argc, char* argv[]) {
  const std::span all(argv, static_cast<std::size_t>(argc));
  const auto first = all.subspan(0, std::min(all.size(), kDaemonWithin));
  const auto marker = std::find_if(first.begin(), first.end(), [](const char* argument) {
    return std::string_view(argument) == kBundleDaemon;
  });
  if (marker != first.end()) return serve(all, all.begin() + (marker - first.begin()));
  try {
    return start(all);
  } catch (const std::exception& error) {
    print_line(STDERR_FILENO, std::string("pyram: ") + error.what());
  }
  return static_cast<int>(ExitCode::kLauncherFailed);
}
