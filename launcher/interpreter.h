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

// How a child of ours ended.
struct InterpreterEnd {
  int error = 0;   // errno's value where the interpreter could not be started.
  int status = 0;  // Its exit code.
};

// Runs it as a child (for --help and --version, after which Pyram adds a line of its own). Throws
// Error. (Cold: no other start does so.)
[[nodiscard, gnu::cold]] InterpreterEnd run_interpreter(const std::string& root,
                                                        const std::string& called_as,
                                                        std::span<char* const> arguments);

}  // namespace pyram::launcher
