// `pyram-image outdated`: what Debian has newer than the packages of an image.
#pragma once

#include <filesystem>
#include <string>

namespace pyram::builder {

struct OutdatedOptions {
  std::filesystem::path image;
  std::string mirror;
  std::filesystem::path cache;  // Where lists of packages are kept; empty: nowhere.
  bool json = false;
  bool quiet = false;  // Say nothing where nothing is newer: for cron.
};

// Prints it. Returns kOk, or kOutdated when something is newer. Throws Error as fetch_debian(), and
// kBadImage for an image that wasn't made of Debian's packages.
[[nodiscard]] int list_outdated(const OutdatedOptions& options);

}  // namespace pyram::builder
