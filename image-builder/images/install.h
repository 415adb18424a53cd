// `pyram-image install` and `remove`: images in the image directories, by name.
#pragma once

#include <filesystem>
#include <string>

namespace pyram::builder {

struct InstallOptions {
  std::string image;          // A file, or the name of an image in another image directory.
  std::string name;           // What to call it; empty: as its file.
  std::filesystem::path key;  // That has to have signed it; may be empty.
  bool user = false;          // Into the user's directory, for root too.
  bool restart = false;       // Have systemd's mount of it serve the new one.
};

// Checks the image, copies it into the directory of its kind, on disk and under another name, and
// renames it: whoever has the old one mounted goes on with that. Returns what to tell the person.
// Throws Error: kBadImage or kVerification for an image that isn't whole, kCannotWrite.
[[nodiscard]] std::string install_image(const InstallOptions& options);

// Removes the image that `name` means. Programs that run from it go on. Returns what to tell the
// person. Throws Error: kBadImage when there is none, kUsage where a package owns it.
[[nodiscard]] std::string remove_image(const std::string& name);

}  // namespace pyram::builder
