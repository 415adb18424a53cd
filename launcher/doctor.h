// --pyram-doctor: goes through the ways to mount, tries each, and says what is wrong with it.
#pragma once

#include "launcher/executable.h"
#include "launcher/image_search.h"
#include "launcher/settings.h"

namespace pyram::launcher {

// Writes the report to stdout. New mounts are really made, on a mount point of the doctor's own,
// and unmounted again; unpacking isn't tried, only whether there is room. Returns the exit code:
// 0 when at least one way works.
[[nodiscard]] int examine(const ChosenImage& image, const Settings& settings,
                          const Executable& self);

}  // namespace pyram::launcher
