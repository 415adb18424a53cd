#include "registry/remove.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <vector>

#include "image-builder/images/list.h"
#include "registry/lazy_image.h"
#include "support/error.h"
#include "support/image_reference.h"
#include "support/io.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

void unlink_or_throw(const fs::path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return;
  throw system_error(ExitCode::kCannotWrite, errno, "remove " + quote(path.native()));
}

fs::path link_of(const std::string& text) {
  const auto reference = parse_image_reference(text);
  if (reference) {
    std::error_code error;
    for (const std::string& place : stored_places(*reference)) {
      if (fs::is_symlink(fs::symlink_status(place, error))) return place;
    }
  }
  throw Error(ExitCode::kBadImage, "the image " + quote(text) +
                                       " was not pulled; pyram-image list shows those that were");
}

// Where the parts are of an image that is being fetched.
std::optional<fs::path> parts_of(const fs::path& image) {
  std::error_code error;
  if (fs::file_size(image, error) >= kLongestStub || error) return std::nullopt;
  const auto directory = parse_stub(read_file(image));
  if (!directory) return std::nullopt;
  return (image.parent_path() / *directory).lexically_normal();
}

// A fetcher sees that the image has no name any more, and removes its files itself.
void remove_parts(const fs::path& directory) {
  try {
    const LazyImage image(directory);
    if (!image.lock()) return;
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): a part of one.
  }
  LazyImage::remove(directory);
}

}  // namespace

std::string remove_pulled(const std::string& reference) {
  const fs::path link = link_of(reference);
  const fs::path image = (link.parent_path() / fs::read_symlink(link)).lexically_normal();
  const auto names = pulled_images();
  const bool has_others = std::ranges::count(names, image.native(), &PulledImage::file) > 1;
  if (has_others) {
    unlink_or_throw(link);
    return "removed the name " + escape(reference) + "; the image has another one\n";
  }
  const auto parts = parts_of(image);
  const std::vector<fs::path> mounts = builder::mounts_of(image);
  if (parts && !mounts.empty()) {
    throw Error(ExitCode::kUsage, "cannot remove " + escape(reference) +
                                      ": it is still being fetched, and is mounted on " +
                                      quote(mounts.front().native()) +
                                      "; unmount it first: pyram-mount --unmount " +
                                      escape(mounts.front().native()));
  }
  unlink_or_throw(link);
  unlink_or_throw(image);
  if (parts) remove_parts(*parts);
  std::string text = "removed " + escape(reference) + "\n";
  for (const fs::path& point : mounts) {
    text += "It is mounted on " + quote(point.native()) +
            " until that is unmounted; programs that run go on\n";
  }
  return text;
}

}  // namespace pyram::registry
