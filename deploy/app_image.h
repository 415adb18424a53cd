// What an image has to be before it is put into service.
#pragma once

#include <filesystem>
#include <string>

#include "image-builder/output/integrity.h"

namespace pyram::deploy {

struct AppImage {
  std::string digest;       // "sha256:..."
  std::string application;  // "mysite.wsgi:application"
  std::string signature;    // Who signed it, for a person.
  std::string built;        // When, as "2026-11-26 07:00 UTC".
  bool is_django = false;
};

// Checks every byte of an image, its signature where `trust` has keys, and that it is an app's for
// this machine. Throws Error: kBadImage, kVerification; kUsage for a key that is none.
[[nodiscard]] AppImage check_app_image(const std::filesystem::path& image,
                                       const std::filesystem::path& trust = builder::kTrustedKeys);

// The same facts of an image that was checked when it was stored.
[[nodiscard]] AppImage describe_app_image(const std::filesystem::path& image);

}  // namespace pyram::deploy
