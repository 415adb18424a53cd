// `pyram-image remove REFERENCE`.
#pragma once

#include <string>

namespace pyram::registry {

// Removes the name from the store, and the image with its last name. Programs that have a whole
// image open go on; of one that is still being fetched, mounts in other namespaces are not seen.
// Returns what to tell. Throws Error: kBadImage where it was not pulled; kUsage where a mount needs
// what is still being fetched; kCannotWrite.
[[nodiscard]] std::string remove_pulled(const std::string& reference);

}  // namespace pyram::registry
