// Everything that reads an image's manifest.
#pragma once

#include <string_view>

namespace pyram::test {

// What `pyram-image info` and `diff` show of a manifest, and what a build takes from it. It is an
// Error or a text. Returns whether it was one that can be shown.
bool check_manifest(std::string_view text);

}  // namespace pyram::test
