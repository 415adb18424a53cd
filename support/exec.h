// The two conversions around exec and wait. Apart from process.h, so that the launcher, which
// starts its children itself, takes no more than this. Thread-safe.
#pragma once

#include <string>
#include <vector>

namespace pyram {

// What the exec functions take: pointers into `strings` (which have to stay as they are meanwhile),
// and a null pointer at the end.
[[nodiscard]] std::vector<char*> exec_pointers(const std::vector<std::string>& strings);

// The exit code in what waitpid() gave, or 128 + N when signal N ended the process.
[[nodiscard]] int exit_code_of(int wait_status);

}  // namespace pyram
