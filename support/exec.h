// Arguments as the exec functions take them: for child.h, and for the daemon, which starts its
// workers itself. Thread-safe.
#pragma once

#include <string>
#include <vector>

namespace pyram {

// What the exec functions take: pointers into `strings` (which have to stay as they are meanwhile),
// and a null pointer at the end.
[[nodiscard]] std::vector<char*> exec_pointers(const std::vector<std::string>& strings);

}  // namespace pyram
