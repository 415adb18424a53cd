// What the process that fetches gives up before it speaks to a server.
#pragma once

#include <filesystem>
#include <vector>

namespace pyram::registry {

// From now on it has no rights beyond its user's, leaves no memory behind, and, where the kernel
// has Landlock, writes nowhere but below `writable` and runs no program. (Unlike the worker of a
// mount it has to speak to the network, and to read certificates and credentials: so which system
// calls it makes is not restricted.) Of this thread and those that it starts.
void confine_fetcher(const std::vector<std::filesystem::path>& writable);

}  // namespace pyram::registry
