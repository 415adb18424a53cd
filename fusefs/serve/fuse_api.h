// libfuse's low-level interface, in the version that 3.14 and 3.17 both have. Only for the session
// and the operations.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
