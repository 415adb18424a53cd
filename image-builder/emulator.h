// Runs programs of another processor than this machine's.
#pragma once

#include <string>
#include <vector>

#include "image-builder/elf/architecture.h"

namespace pyram::builder {

// The words that a command for a program of this architecture begins with: none where it is this
// machine's own, else those of qemu-user. Named in the command, so that nothing has to be
// registered with the kernel (binfmt_misc). Throws Error (kMissingTool) without qemu-user.
[[nodiscard]] std::vector<std::string> emulator(const Architecture& architecture);

}  // namespace pyram::builder
