// A mount's whole life: mount, answer, unmount.
#pragma once

#include "fusefs/options.h"
#include "fusefs/readiness.h"

namespace pyram {

// Mounts, tells `readiness`, and returns when the file system is not mounted any more.
// Throws Error when it cannot be mounted; nothing is left mounted then, and `readiness` is not
// told. REQUIRES: no other threads.
void run_daemon(const Options& options, Readiness& readiness);

}  // namespace pyram
