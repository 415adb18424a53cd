#include "launcher/namespaces.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

int write_to(const char* path, const std::string& text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  if (!fd) return errno;
  return ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0
                                                                                          : errno;
}

// A program that isn't root loses its capabilities at exec, ambient ones excepted; and these must
// be inheritable first.
int keep_capability_over_exec(unsigned capability) {
  __user_cap_header_struct header{};
  header.version = _LINUX_CAPABILITY_VERSION_3;
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return errno;
  data[CAP_TO_INDEX(capability)].inheritable |= CAP_TO_MASK(capability);
  if (::syscall(SYS_capset, &header, data.data()) != 0) return errno;
  return ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0 ? 0 : errno;
}

}  // namespace

NamespaceStep enter_new_namespaces() {
  const std::string uid = std::to_string(::geteuid());
  const std::string gid = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return {"make a user namespace", errno};
  // The kernel wants this given up before an ordinary user may map a group.
  if (const int error = write_to("/proc/self/setgroups", "deny"); error != 0 && error != ENOENT) {
    return {"write /proc/self/setgroups", error};
  }
  if (const int error = write_to("/proc/self/uid_map", uid + ' ' + uid + " 1")) {
    return {error == ENOENT ? "make a user namespace, which needs /proc (mount it)"
                            : "map the uid into a user namespace",
            error};
  }
  if (const int error = write_to("/proc/self/gid_map", gid + ' ' + gid + " 1")) {
    return {"map the gid into a user namespace", error};
  }
  // What is mounted outside later shall appear inside (a script may need it), not the reverse.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return {"separate the mounts of a user namespace", errno};
  }
  if (const int error = keep_capability_over_exec(CAP_SYS_ADMIN)) {
    return {"keep the right to mount in a user namespace", error};
  }
  return {};
}

}  // namespace pyram::launcher
