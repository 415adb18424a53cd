#include "launcher/interpreter.h"

#include <unistd.h>

#include <cerrno>
#include <vector>

#include "launcher/settings.h"
#include "support/child.h"
#include "support/image_layout.h"

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

int run_interpreter(const std::string& root, const std::string& called_as,
                    std::span<char* const> arguments) {
  const auto become = [&] { return become_interpreter(root, called_as, arguments); };
  return Child::fork("start the interpreter", become).wait();
}

}  // namespace pyram::launcher
