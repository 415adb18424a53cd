// The process that fetches the rest of an image: `pyram-image fetch DIRECTORY`, for Pyram's own
// use.
//
// It is started by `pull --lazy`, and again by whatever finds that it is missing. It ends when
// everything is here and the image has its name, or when nobody wants the image any more. Nothing
// else ends it: after an outage it goes on.
#pragma once

#include <filesystem>

namespace pyram::registry {

// Returns at once where another process fetches already. Throws Error for a directory that has no
// image on its way.
void fetch_image(const std::filesystem::path& directory);

}  // namespace pyram::registry
