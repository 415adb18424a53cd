// From an image to a folder that has its content: finding a mount, or making one.
//
// The first start of an image mounts it while it holds a lock; the others wait for the lock and
// then find the mount. A mount that was found is held by a descriptor on it until the interpreter
// runs, so that the daemon's idle unmount can't come between (the kernel answers it EBUSY).
#pragma once

#include <optional>
#include <string>

#include "launcher/executable.h"
#include "launcher/image_search.h"
#include "launcher/settings.h"
#include "support/unique_fd.h"

namespace pyram::launcher {

// An image's content, held until the object goes. The descriptor is close-on-exec, so exec ends
// the hold just after the interpreter's own mapping has taken its place.
struct Root {
  std::string path;
  UniqueFd hold;
};

// The content of `image`, by the ways that `settings` allow, in the order of kBackends.
// Throws Error when none of them works.
[[nodiscard]] Root provide_root(const Image& image, const Settings& settings,
                                const Executable& self, bool to_ram);

}  // namespace pyram::launcher
