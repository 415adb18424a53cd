// `pyram-app status`: what sites there are, and what they do.
#pragma once

#include <string>

#include "deploy/site.h"

namespace pyram::deploy {

// Of one site. Throws Error (kUsage) where there is none.
[[nodiscard]] std::string status_of(const Site& site);
// Of all.
[[nodiscard]] std::string status_of_all();

}  // namespace pyram::deploy
