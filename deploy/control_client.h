// The other side of pyram_serve's control socket (serve/pyram_serve/control.py).
#pragma once

#include <filesystem>

namespace pyram::deploy {

// Has the service load its image anew, and waits until that serves. Throws Error (kFailed) with the
// reason: then what served before goes on.
void ask_for_reload(const std::filesystem::path& socket);

}  // namespace pyram::deploy
