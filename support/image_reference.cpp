#include "support/image_reference.h"

#include <algorithm>
#include <filesystem>

#include "support/error.h"
#include "support/image_names.h"

namespace pyram {
namespace {

constexpr std::string_view kDigestStart = "sha256:";
constexpr std::size_t kLongestName = 255;  // Of a repository or host, as registries have it.
constexpr std::size_t kLongestTag = 128;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_small(char c) { return is_digit(c) || (c >= 'a' && c <= 'z'); }
bool is_plain(char c) { return is_small(c) || (c >= 'A' && c <= 'Z'); }

template <typename Is>
bool all_of(std::string_view text, const Is& is) {
  return std::all_of(text.begin(), text.end(), is);
}

bool is_host(std::string_view host) {
  std::string_view name = host;
  if (host.starts_with('[')) {  // An address of IPv6.
    const std::size_t end = host.find(']');
    if (end == std::string_view::npos) return false;
    name = host.substr(0, end);
    if (!all_of(name.substr(1), [](char c) { return is_plain(c) || c == ':' || c == '.'; })) {
      return false;
    }
    name = host.substr(0, end + 1);
  } else {
    name = host.substr(0, host.find(':'));
    if (name.empty() || !is_plain(name.front()) || !is_plain(name.back()) ||
        !all_of(name, [](char c) { return is_plain(c) || c == '.' || c == '-'; })) {
      return false;
    }
  }
  const std::string_view port = host.substr(name.size());
  if (!port.empty() && (port.size() < 2 || port.size() > 6 || port.front() != ':' ||
                        !all_of(port.substr(1), is_digit))) {
    return false;
  }
  return name == "localhost" || !port.empty() || name.find_first_of(".[") != std::string_view::npos;
}

// Parts of letters, digits and separators between them, with '/' between the parts: so no part is
// "." or "..", and none is empty.
bool is_repository(std::string_view repository) {
  if (repository.empty() || repository.size() > kLongestName) return false;
  char before = '/';
  for (const char c : repository) {
    if (!is_small(c) && (c == '/' || c == '.' || c == '_' || c == '-')) {
      const bool doubled = (c == '_' || c == '-') && before == c;
      if (!is_small(before) && !doubled) return false;
    } else if (!is_small(c)) {
      return false;
    }
    before = c;
  }
  return is_small(before);
}

bool is_tag(std::string_view tag) {
  return !tag.empty() && tag.size() <= kLongestTag && tag.front() != '.' && tag.front() != '-' &&
         all_of(tag, [](char c) { return is_plain(c) || c == '_' || c == '.' || c == '-'; });
}

}  // namespace

bool is_digest(std::string_view text) {
  return text.size() == kDigestStart.size() + 64 && text.starts_with(kDigestStart) &&
         all_of(text.substr(kDigestStart.size()),
                [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

std::optional<ImageReference> parse_image_reference(std::string_view text) {
  ImageReference result;
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  result.host = text.substr(0, slash);
  std::string_view rest = text.substr(slash + 1);
  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    result.digest = rest.substr(at + 1);
    if (!is_digest(result.digest)) return std::nullopt;
    rest = rest.substr(0, at);
  }
  if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    result.tag = rest.substr(colon + 1);
    if (!is_tag(result.tag)) return std::nullopt;
    rest = rest.substr(0, colon);
  } else if (result.digest.empty()) {
    result.tag = "latest";
  }
  result.repository = rest;
  if (!is_host(result.host) || !is_repository(rest)) return std::nullopt;
  return result;
}

std::optional<std::string> user_store() { return users_data("/pyram/store"); }

std::string name_in_store(const ImageReference& reference) {
  std::string name = "names/";
  name.append(reference.host).append("/").append(reference.repository);
  // A digest says all; a tag beside it is for people.
  if (!reference.digest.empty()) return name.append("@").append(reference.digest);
  return name.append(":").append(reference.tag);
}

std::vector<std::string> stored_places(const ImageReference& reference) {
  std::vector<std::string> places;
  if (const auto own = user_store()) places.push_back(*own + '/' + name_in_store(reference));
  places.push_back(std::string(kSystemStore) + '/' + name_in_store(reference));
  return places;
}

void add_pulled_images(const std::string& store, std::vector<PulledImage>& images) {
  namespace fs = std::filesystem;
  const fs::path names = fs::path(store) / "names";
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(names)) {
    std::string reference = entry.path().lexically_relative(names).native();
    if (!entry.is_symlink() || !parse_image_reference(reference)) continue;
    const fs::path target = entry.path().parent_path() / fs::read_symlink(entry.path());
    images.push_back({std::move(reference), target.lexically_normal().native()});
  }
}

std::vector<PulledImage> pulled_images() {
  std::vector<std::string> stores;
  if (auto own = user_store()) stores.push_back(*std::move(own));
  if (stores.empty() || stores.front() != kSystemStore) stores.emplace_back(kSystemStore);
  std::vector<PulledImage> images;
  for (const std::string& store : stores) {
    const auto before = static_cast<std::ptrdiff_t>(images.size());
    try {
      add_pulled_images(store, images);
    } catch (const std::filesystem::filesystem_error&) {  // NOLINT(bugprone-empty-catch)
      // The store may not be there, or not be this user's to read.
    }
    std::ranges::sort(images.begin() + before, images.end(), {}, &PulledImage::reference);
  }
  return images;
}

std::string not_pulled(std::string_view reference) {
  return "the image " + quote(reference) + " is neither a file nor pulled; run pyram-image pull " +
         escape(reference);
}

}  // namespace pyram
