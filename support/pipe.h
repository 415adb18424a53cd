// A pipe, its ends owned.
#pragma once

#include "support/unique_fd.h"

namespace pyram {

struct Pipe {
  UniqueFd reader;
  UniqueFd writer;
};

// Both ends are closed by exec. Throws Error (kFailed). Thread-safe.
[[nodiscard]] Pipe make_pipe();

}  // namespace pyram
