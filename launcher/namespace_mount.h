// A mount in a user namespace: the way for a user who has /dev/fuse and no fusermount3.
//
// The daemon runs in a user and a mount namespace of its own, in which the user's uid and gid are
// mapped to themselves and nothing else is. Scripts join these namespaces, so that all of them use
// one daemon. Where it is stands in the file STEM-KEY.ns-N: N is the inode number of the mount
// namespace that the start came from, since joining brings a script into a copy of exactly that
// namespace's tree. The text is "PID INODE\n": a process of the namespaces, and the inode number of
// its mount namespace, by which a PID that was given to another process meanwhile is told. The same
// text is in a file for that inner namespace, so that a start from inside knows where it is.
//
// What a script notices: files of other users seem to belong to 65534, and set-uid programs
// (sudo, su) don't work.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "launcher/image_place.h"

namespace pyram::launcher {

// Joins the namespaces of the running mount, if there is one, and stays in the working directory.
// Afterwards the mount is at place.namespace_path(). Throws Error only when it went wrong half way.
[[nodiscard]] std::optional<Root> join_namespace_mount(const ImagePlace& place);

// Mounts in new namespaces by running `daemon_command` (pyram-mount's path and arguments, the mount
// point being place.namespace_path()), and
// writes the file. Returns the daemon's process id. Throws Error. REQUIRES: the place's lock, and a
// mount point.
pid_t make_namespace_mount(const ImagePlace& place, const std::vector<std::string>& daemon_command);

// Removes what make_namespace_mount() wrote.
void forget_namespace_mount(const ImagePlace& place, pid_t daemon);

}  // namespace pyram::launcher
