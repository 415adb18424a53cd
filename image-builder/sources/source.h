// Where an image's files come from.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "image-builder/progress.h"

namespace pyram::builder {

// One thing that was put into an image: a Debian package, a wheel.
struct Package {
  std::string name;
  std::string version;
  std::string kind;                   // "deb", "wheel", "pypy"
  std::string source;                 // Where it came from: a URL or a file's name.
  std::string sha256;                 // Of the package file; empty for what has none.
  std::vector<std::string> licences;  // Short names as the package says them.
};

// An interpreter and what belongs to it, unpacked and ready to be moved into an image.
struct SourceTree {
  std::filesystem::path root;     // The top; symbolic links to absolute paths are relative to it.
  std::filesystem::path prefix;   // Holds bin/, lib/ and share/: root/usr, or the root itself.
  bool movable = false;           // Files may be moved away: it is ours.
  bool system_libraries = false;  // What it lacks may come from this machine.
  bool is_image = false;          // An unpacked image, whose manifest says what is in it.
  std::vector<std::filesystem::path> library_directories;
  std::vector<Package> packages;
  std::vector<std::string> named;             // Packages that the user asked for.
  std::map<std::string, std::string> owners;  // Path relative to root -> package name.
  std::string description;                    // "debian:trixie"
};

// What a `debian:` source takes, beside the suite.
struct DebianRequest {
  std::string suite;
  std::string architecture;           // As Debian calls it; empty: the machine's own.
  std::string mirror;                 // Empty: the machine's own, or deb.debian.org.
  std::vector<std::string> packages;  // Beside what every image has.
  std::filesystem::path cache;        // Where packages are kept; empty: nowhere.
};

// Fetches through apt in a private root below `work` and unpacks into it. Verified by Debian's
// archive keys; the machine's own apt state and packages are neither read nor changed, except that
// its proxy and mirror are used. Works without root.
// Throws Error: kMissingTool without apt or Debian's keyring, kBadSource for what cannot be fetched
// or verified, kCannotWrite where unpacking runs out of space.
[[nodiscard]] SourceTree fetch_debian(const DebianRequest& request,
                                      const std::filesystem::path& work, Progress& progress);

// A package of an image of which Debian has a newer version.
struct NewerPackage {
  std::string name;
  std::string version;
  std::string newer;
  bool security = false;  // The newer one is in the suite's security suite.
};

// What the suite and its security suite have newer than these packages, by name. The lists come as
// fetch_debian() gets them, with the same errors; kBadSource also where no mirror of the security
// suite is known, as nothing found would then mean nothing.
[[nodiscard]] std::vector<NewerPackage> newer_packages(const DebianRequest& request,
                                                       const std::vector<Package>& packages,
                                                       const std::filesystem::path& work);

// A portable build of PyPy in an archive (tar, compressed by bzip2, xz, gzip or zstd), unpacked
// below `work`. Throws Error (kBadSource) for an archive that is damaged or holds no PyPy, and for
// entries that lead out of it, are devices, or are set-uid: named, and nothing of it stays.
[[nodiscard]] SourceTree use_archive(const std::filesystem::path& file,
                                     const std::filesystem::path& work, Progress& progress);

// An installed PyPy, or an unpacked image, which stays as it is. Throws Error (kBadSource).
[[nodiscard]] SourceTree use_directory(const std::filesystem::path& directory);

// Adds the packages and owners of files that an unpacked image's manifest names to `source`; `text`
// is what is in the file `name`. Throws Error (kBadSource).
void use_manifest(std::string_view text, const std::string& name, SourceTree& source);

}  // namespace pyram::builder
