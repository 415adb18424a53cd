// Becoming PyPy.
#pragma once

#include <span>
#include <string>

namespace pyram::launcher {

// Replaces this process by the interpreter of the image whose content lies under `root`.
// `called_as` becomes argv[0] as PyPy sees it. The environment and the open descriptors (ours are
// all close-on-exec) are left as they are.
// Returns only when that failed: with errno's value.
[[nodiscard]] int become_interpreter(const std::string& root, const std::string& called_as,
                                     std::span<char* const> arguments);

// Runs it as a child (for --help and --version, after which Pyram adds a line of its own);
// its exit code. Throws Error.
[[nodiscard]] int run_interpreter(const std::string& root, const std::string& called_as,
                                  std::span<char* const> arguments);

}  // namespace pyram::launcher
