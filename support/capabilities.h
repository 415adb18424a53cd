// Giving up rights of the superuser.
#pragma once

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace pyram {

// Of this thread, for good, as far as the kernel lets it: without CAP_SETPCAP the bounding set
// stays, and no_new_privs makes it worthless. Returns whether none is left that could be used.
// Here, so that it lies with the code that calls it (order.ld).
[[nodiscard]] inline bool drop_capabilities() {
  for (unsigned long i = 0; ::prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0; ++i) {
  }
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  return ::syscall(SYS_capset, &header, none.data()) == 0;
}

}  // namespace pyram
