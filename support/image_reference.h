// How images in registries are named, and where pulled ones lie: what pyram-image, the launcher and
// the daemon agree on. Nothing here asks a registry.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pyram {

// HOST[:PORT]/REPOSITORY[:TAG][@DIGEST], taken apart. The parts lie in the text that was given.
struct ImageReference {
  std::string_view host;  // With its port.
  std::string_view repository;
  std::string_view tag;     // "latest" where neither tag nor digest is given; may be empty.
  std::string_view digest;  // "sha256:" and 64 digits, or empty.
};

// Nothing where `text` has another form. The host has a '.' or a ':' in it, or is "localhost": so
// no name of an image and hardly any path is a reference, and no registry is meant by default.
[[nodiscard]] std::optional<ImageReference> parse_image_reference(std::string_view text);

// Whether `text` is "sha256:" and 64 digits in lower case.
[[nodiscard]] bool is_digest(std::string_view text);

// The places of pulled images. In each is names/REFERENCE, a link to the image's file; the
// reference with its tag, or without one where it has a digest.
inline constexpr char kSystemStore[] = "/var/lib/pyram/store";

// The user's own store, where there is one: below $XDG_DATA_HOME, else in the home directory.
[[nodiscard]] std::optional<std::string> user_store();

// Where a pulled image's name may be, first one first. Not all of these exist.
[[nodiscard]] std::vector<std::string> stored_places(const ImageReference& reference);

// The name's place in a store.
[[nodiscard]] std::string name_in_store(const ImageReference& reference);

// A name in a store.
struct PulledImage {
  std::string reference;  // As not_pulled() and `pyram --image` take it.
  std::string file;       // What it leads to, also where nothing is there.
};
// Adds the names in a store. Throws std::filesystem::filesystem_error where it can't read them all;
// those before that are added.
void add_pulled_images(const std::string& store, std::vector<PulledImage>& images);
// The names in the user's own store, then those in the machine's; in each sorted. Skips what can't
// be read.
[[nodiscard]] std::vector<PulledImage> pulled_images();

// What to tell of a reference whose image is in none of these places.
[[nodiscard]] std::string not_pulled(std::string_view reference);

}  // namespace pyram
