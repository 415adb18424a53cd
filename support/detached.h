// Starting a program that goes on when its starter has ended.
#pragma once

#include <string>
#include <vector>

namespace pyram {

// In a session of its own, with /dev/null as standard descriptors and no other descriptor of ours,
// in the root directory. It is nobody's child here. Throws Error (kMissingTool, kFailed).
void start_detached(const std::vector<std::string>& arguments);

}  // namespace pyram
