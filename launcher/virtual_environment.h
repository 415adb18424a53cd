// A Python virtual environment, as far as the launcher has to know it: what its pyvenv.cfg says.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pyram::launcher {

struct VirtualEnvironment {
  std::string home;   // The directory of the program that made it, or nothing.
  std::string image;  // The image that was named when it was made (a name or a file), or nothing.
};

// The environment whose interpreter is called as `program`, if it is one's: pyvenv.cfg lies in the
// program's directory or in the one above, links not followed, as for site.py. Thread-safe.
[[nodiscard]] std::optional<VirtualEnvironment> find_virtual_environment(
    const std::string& program);

}  // namespace pyram::launcher
