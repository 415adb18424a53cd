// A site's directory: the images of its versions, and two links that say which one is served.
//
//   /var/lib/pyram/apps/SITE/VERSION.sqfs    VERSION: the beginning of the image's digest
//   /var/lib/pyram/apps/SITE/current.sqfs    a link to what is served
//   /var/lib/pyram/apps/SITE/previous.sqfs   a link to what was served before
//
// A link is replaced by one rename: at any moment, and after a crash, each leads to a whole image.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "support/unique_fd.h"

namespace pyram::deploy {

inline constexpr char kApps[] = "/var/lib/pyram/apps";

// What the links say. Empty where there is no such link.
struct Versions {
  std::string current;
  std::string previous;
};

struct Stored {
  std::string version;
  bool is_new = false;  // A mount that there may be of that version is another file's.
};

// Not thread-safe.
class Site {
 public:
  // Throws Error (kUsage) for a name that is no name of a site: it becomes part of the names of
  // units, files and a user.
  explicit Site(std::string name, const std::filesystem::path& apps = kApps);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  [[nodiscard]] std::filesystem::path image(const std::string& version) const {
    return directory_ / (version + ".sqfs");
  }
  [[nodiscard]] Versions versions() const;
  // Whether a version was ever put here.
  [[nodiscard]] bool exists() const { return !versions().current.empty(); }

  // Makes the directory where there is none. Throws Error (kCannotWrite).
  void create() const;
  // Held by whoever changes something. Throws Error (kFailed) when somebody else does.
  [[nodiscard]] UniqueFd lock() const;

  // Copies an image here, whole and on the disk, unless it is here already. `digest` is the one
  // that was checked; its beginning is the version. Throws Error (kCannotWrite where there is no
  // room, kVerification where the copy is another).
  [[nodiscard]] Stored store(const std::filesystem::path& image, const std::string& digest) const;

  // Has the links say that. Throws Error (kCannotWrite).
  void point(const Versions& versions) const;

  // Removes the images that no link leads to.
  void prune() const;
  // Removes everything.
  void remove() const;

 private:
  [[nodiscard]] std::string target(const char* link) const;
  void set_link(const char* link, const std::string& version) const;

  std::string name_;
  std::filesystem::path directory_;
};

// The version that an image with this digest ("sha256:...") is.
[[nodiscard]] std::string version_of(const std::string& digest);

}  // namespace pyram::deploy
