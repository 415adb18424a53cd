// The commands of pyram-app that change something.
//
// Whatever fails leaves the version that serves serving, with the links as they were.
#pragma once

#include <filesystem>
#include <string>

#include "deploy/site.h"

namespace pyram::deploy {

struct PutOptions {
  std::string site;
  std::filesystem::path image;
  bool migrate = false;  // The database, before the version serves.
};

// A site's first version. Throws Error; then nothing is left of the site but its data.
void install(const PutOptions& options);
// The next one. Throws Error; then the version before serves.
void upgrade(const PutOptions& options);
// The version before the current one, which becomes the previous one: a second call undoes it.
void roll_back(const Site& site);
// Loads the current version anew. What the service's unit does for `systemctl reload`.
void reload_current(const Site& site);
// Mounts the current version. What the service's unit does before it starts.
void mount_current(const Site& site);
// Stops the site and removes its images. `purge`: its variables and what it has written, too.
void remove_site(const Site& site, bool purge);

}  // namespace pyram::deploy
