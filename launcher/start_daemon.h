// Starting pyram-mount.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace pyram::launcher {

// Runs `arguments` (arguments[0] is pyram-mount's path) with `--ready-fd N` added after it, and
// returns when the mount serves: the byte '+' came through the pipe. The daemon gets nothing of
// ours: standard descriptors on /dev/null, no other descriptor, default signal handling, soft
// resource limits raised to the hard ones (a script's `ulimit -t` must not end everybody's mount),
// normal scheduling, priorities and processors, as far as the user may.
// No child is left behind for the script to wait for.
// Returns the process id of the one that serves, which the kernel attached to its byte; 0 where it
// can't be known. Throws Error with the daemon's own text and exit code, or saying how it ended
// without a text.
pid_t start_daemon(const std::vector<std::string>& arguments);

// The same in a new user and a new mount namespace, in which the daemon has our uid and gid and
// may mount. Returns its process id: it runs in the foreground (-f is added) and is no child of
// this process. Cold, as run_quietly(): the code stays apart from what nearly every first start
// reads.
[[nodiscard, gnu::cold]] pid_t start_daemon_in_namespaces(
    const std::vector<std::string>& arguments);

// Runs a program to its end with standard descriptors on /dev/null; its exit code, or 128 + signal.
[[nodiscard, gnu::cold]] int run_quietly(const std::vector<std::string>& arguments);

}  // namespace pyram::launcher
