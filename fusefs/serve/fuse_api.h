// libfuse's low-level interface, in the version that 3.14 and 3.17 both have. Only for the session
// and the operations.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

namespace pyram {

class FileSystem;
class Transport;

// What libfuse hands to each operation and to each hook (its "user data").
struct FuseUser {
  FileSystem& file_system;
  Transport& transport;

  [[nodiscard]] static FuseUser& of(void* user_data) { return *static_cast<FuseUser*>(user_data); }
};

}  // namespace pyram
