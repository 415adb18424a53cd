// A mount's whole life: mount, keep a worker that answers, unmount.
#pragma once

#include "fusefs/mount_options.h"
#include "fusefs/supervise/readiness.h"

namespace pyram {

// Mounts `image`, tells `readiness`, and returns when the file system is not mounted any more. This
// process is the supervisor: it keeps the connection to the kernel open, and starts a new worker
// when the one that serves dies. All that can be known of the image is checked first: nobody sees a
// mount that is then refused. Throws Error when it cannot be mounted (nothing is left mounted then,
// and `readiness` is not told), and when it cannot be served any longer. REQUIRES: no other
// threads.
void run_daemon(const Options& options, ImageFile image, Readiness& readiness);

}  // namespace pyram
