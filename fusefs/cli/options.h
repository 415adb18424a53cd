// pyram-mount's command line: its own options, squashfuse_ll's, and mount(8)'s helper form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "fusefs/mount_options.h"

namespace pyram {

// What to do, or nothing when --help or --version was all that was asked for (and is printed).
// Throws Error (kUsage).
[[nodiscard]] std::optional<Options> parse_options(int argc, const char* const* argv);

[[nodiscard]] std::string help_text();

// Which of this process's descriptors a path is: N of /proc/self/fd/N and of /dev/fd/N.
[[nodiscard]] std::optional<int> descriptor_named_by(std::string_view path);

}  // namespace pyram
