// Taking everything from a process that it does not need for serving a mount that is open already.
#pragma once

#include <sys/types.h>

#include <string>

namespace pyram {

struct ConfinementNeeds {
  pid_t helper = -1;  // A child that may be killed and waited for; -1: none.
};

// From here on this thread, and those that it starts (but no other: each confines itself), can
//   - gain no privilege (no_new_privs), and have no capability;
//   - open no file, and connect to nothing that has a name (Landlock, where the kernel has it);
//   - make no system call but those that reading an image, answering the kernel, threads, memory
//     and time need (seccomp, where the kernel has it): no open, no stat of a path (which Landlock
//     doesn't refuse), no socket, exec, fork, ptrace, mount; nothing becomes executable; what is
//     refused fails with EPERM;
//   - leave no core dump, be traced by root only, and have few descriptors.
// What is open stays usable. Returns which of these hold here, for --status: "no_new_privs,
// capabilities, ...", separated by commas. Never throws on a kernel that lacks one.
// The limits, core dumps and tracing are the whole process's; the rest each thread's own.
[[nodiscard]] std::string confine(const ConfinementNeeds& needs);

}  // namespace pyram
