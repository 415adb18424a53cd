#include "launcher/interpreter.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "launcher/settings.h"
#include "support/child.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/unique_fd.h"

namespace pyram::launcher {

int become_interpreter(const std::string& root, const std::string& called_as,
                       std::span<char* const> arguments) {
  // Without the image's own loader an image would need a C library of the right age around it.
  std::string loader = root + '/' + layout::kLoader;
  std::string libraries = layout::kLibraryPath;
  if (const auto others = environment_variable("LD_LIBRARY_PATH"); others && !others->empty()) {
    libraries.append(":").append(*others);
  }
  std::string program = root + '/' + layout::kProgram;
  std::string name = called_as;
  std::string argv0_option = "--argv0";
  // An option of the loader, as LD_LIBRARY_PATH would go on to the script's children.
  std::string libraries_option = "--library-path";

  std::vector<char*> argv{name.data(),      argv0_option.data(),
                          name.data(),      libraries_option.data(),
                          libraries.data(), program.data()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  argv.push_back(nullptr);
  ::execve(loader.c_str(), argv.data(), environ);
  return errno;
}

InterpreterEnd run_interpreter(const std::string& root, const std::string& called_as,
                               std::span<char* const> arguments) {
  // Tells why there is no interpreter; closed where there is one. Any exit code is the
  // interpreter's.
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno, "make a pipe");
  }
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const auto become = [&] {
    const int error = become_interpreter(root, called_as, arguments);
    [[maybe_unused]] const ssize_t size = ::write(writer.get(), &error, sizeof error);
    return static_cast<int>(ExitCode::kLauncherFailed);
  };
  Child child = Child::fork("start the interpreter", become);
  writer.reset();
  InterpreterEnd end;
  end.status = child.wait();
  if (::read(reader.get(), &end.error, sizeof end.error) != sizeof end.error) end.error = 0;
  return end;
}

}  // namespace pyram::launcher
