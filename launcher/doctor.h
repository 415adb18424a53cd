// --pyram-doctor: goes through the ways to mount, tries each, and says what is wrong with it.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "launcher/executable.h"
#include "launcher/settings.h"

namespace pyram::launcher {

// Writes the report to stdout: for a person, or as JSON where `arguments` has --json. New mounts
// are really made, on a mount point of the doctor's own, and unmounted again; unpacking isn't
// tried, only whether there is room. Without the image that is `wanted` (as find_image() takes it),
// it says what stands in the way of mounting any. Returns the exit code: 0 when a start would work.
// Throws Error (kUsage) about other arguments.
[[nodiscard, gnu::cold]] int examine(const std::optional<std::string_view>& wanted,
                                     const Settings& settings, const Executable& self,
                                     std::span<char* const> arguments);

}  // namespace pyram::launcher
