// Making a user namespace in which an ordinary user may mount.
#pragma once

namespace pyram::launcher {

struct NamespaceStep {
  const char* tried = "";  // "make a user namespace", ...
  int error = 0;           // An errno value; 0: all steps succeeded.
};

// Moves the calling process, which must have one thread, into a new user and a new mount
// namespace. The uid and gid are mapped to themselves. The right to mount there (CAP_SYS_ADMIN in
// the new namespace, nothing outside) is made to survive exec.
[[nodiscard]] NamespaceStep enter_new_namespaces();

}  // namespace pyram::launcher
