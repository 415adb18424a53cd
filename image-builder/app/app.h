// `pyram-image app`: one image with PyPy, a project and everything that it needs.
//
// Two layers. The lower one (PyPy, the packages, gunicorn) is an image by itself, kept in the cache
// under a key of all that decides what is in it. The upper one is the project; mksquashfs appends
// it to a copy. So a change of the project's code costs seconds.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "image-builder/build.h"

namespace pyram::builder {

struct AppOptions {
  BuildOptions build;             // Of the lower layer; its output is the app's.
  std::filesystem::path project;  // A directory.
  std::string application;        // "module:callable"; empty: found out.
  std::string script;          // A program in the project that is run, in place of an application.
  std::string settings;        // Django's settings module; empty: found out.
  std::filesystem::path urls;  // What the warm-up asks for; may be empty.
  std::vector<std::string> environment;  // "NAME=value", for the build only.
  std::vector<std::filesystem::path> rules;
  std::vector<std::string> keep;
  bool list = false;  // Only show what would be left out.
};

// Returns the program's exit code; what went wrong has been said on stderr then. The output exists
// under its name only when it is whole. To be called from a single-threaded process.
[[nodiscard]] int build_app(const AppOptions& options);

}  // namespace pyram::builder
