// Which of a project's files say what it needs, for pip.
#pragma once

#include <filesystem>

#include "image-builder/tree/packages.h"

namespace pyram::builder {

// Adds to `packages` the first of these that the project has: pylock.toml; requirements.txt; a lock
// file of uv, Poetry or Pipenv, which the tool itself exports, with its hashes, into a file in
// `directory` (made if there is something to export). What has no hashes is used together with the
// dependencies of the project's pyproject.toml. Throws Error: kBadSource when a lock file's tool is
// not installed or fails.
void add_project_requirements(const std::filesystem::path& project,
                              const std::filesystem::path& directory, PackageRequest& packages);

}  // namespace pyram::builder
