// From an image to a directory that has its content: the ways of kBackends, in order.
//
// Whatever an earlier start left is looked for first. Otherwise the first start makes a mount
// while it holds a lock; the others wait for the lock and then find the mount. A mount that was
// found is held until the interpreter runs, so that the daemon's idle unmount can't come between
// (the kernel answers it EBUSY).
#pragma once

#include <string>

#include "launcher/executable.h"
#include "launcher/image_place.h"
#include "launcher/image_search.h"
#include "launcher/settings.h"

namespace pyram::launcher {

// The content of `image`, by the ways that `settings` allow. Throws Error when none works, with
// the reason of each.
[[nodiscard]] Root provide_root(const ChosenImage& image, const Settings& settings,
                                const Executable& self);

// A mount that root made for everybody, if the registry has one.
[[nodiscard]] std::optional<Root> system_mount(const ChosenImage& image);

// pyram-mount's command line for a mount of `image` on `mount_point`. Throws Error when there is
// no pyram-mount.
[[nodiscard]] std::vector<std::string> mount_command(const ChosenImage& image,
                                                     const Settings& settings,
                                                     const Executable& self,
                                                     const std::string& mount_point, bool shared);

}  // namespace pyram::launcher
