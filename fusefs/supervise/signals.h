// The signals that end the daemon: SIGTERM, SIGINT and SIGHUP.
#pragma once

#include "support/unique_fd.h"

namespace pyram {

// Blocks them, in this thread and those it starts, and gives a descriptor that is readable when one
// came. Ignores SIGPIPE. Throws Error (kFailed).
[[nodiscard]] UniqueFd open_signals();

// Takes what came through it.
void read_signals(int descriptor);

}  // namespace pyram
