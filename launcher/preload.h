// --toram: having everything decompressed before the script starts.
#pragma once

#include <string>

namespace pyram::launcher {

// Reads every file under `root` once, so that all of it is in the kernel's page cache. Works for
// any mount, also one that was there before. On a terminal a progress bar appears on stderr when
// it takes longer than a moment. Throws Error on the first file that can't be read.
void read_everything(const std::string& root);

}  // namespace pyram::launcher
