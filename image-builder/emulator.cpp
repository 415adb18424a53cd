#include "image-builder/emulator.h"

#include "support/error.h"
#include "support/process.h"

namespace pyram::builder {

std::vector<std::string> emulator(const Architecture& architecture) {
  if (&architecture == &own_architecture()) return {};
  const std::string name = "qemu-" + std::string(architecture.machine);
  for (const std::string& candidate : {name + "-static", name}) {
    if (const auto found = find_program(candidate)) return {found->native()};
  }
  throw Error(ExitCode::kMissingTool,
              "cannot run programs for " + std::string(architecture.debian) + " on this machine: " +
                  quote(name + "-static") + " is not in PATH; install qemu-user-static");
}

}  // namespace pyram::builder
