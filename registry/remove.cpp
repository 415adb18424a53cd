#include "registry/remove.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <vector>

#include "image-builder/images/list.h"
#include "registry/lazy_image.h"
#include "registry/partial_file.h"
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

// A name in a store, and where it leads.
struct Name {
  fs::path store;
  fs::path link;
  fs::path image;
};

Name name_of(const std::string& text) {
  if (const auto reference = parse_image_reference(text)) {
    const std::string name = name_in_store(*reference);
    for (const std::string& place : stored_places(*reference)) {
      std::error_code error;
      const fs::path target = fs::read_symlink(place, error);
      if (error) continue;
      return {place.substr(0, place.size() - name.size() - 1), place,
              (fs::path(place).parent_path() / target).lexically_normal()};
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

// Has pulls of the image wait, and waits for one that runs.
class PullsWait {
 public:
  explicit PullsWait(const fs::path& partial) : file_(partial) {}
  ~PullsWait() {
    if (file_.size() == 0) file_.remove();  // Otherwise it is what a pull has that goes on later.
  }
  PullsWait(const PullsWait&) = delete;
  PullsWait& operator=(const PullsWait&) = delete;

 private:
  PartialFile file_;
};

// Whether the store has another name for it. Throws fs::filesystem_error where that can't be seen.
bool has_another_name(const Name& name) {
  std::vector<PulledImage> images;
  add_pulled_images(name.store.native(), images);
  return std::ranges::count(images, name.image.native(), &PulledImage::file) > 1;
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

std::string remove_pulled(const std::string& reference) try {
  const Name name = name_of(reference);
  const fs::path& image = name.image;
  if (image.parent_path() != name.store / "images") {  // Somebody else's.
    unlink_or_throw(name.link);
    return "removed the name " + escape(reference) + " of " + quote(image.native()) + "\n";
  }
  // A pull of the same image under another name ends first.
  const PullsWait pulls_wait(name.store / "partial" / image.stem());
  if (has_another_name(name)) {
    unlink_or_throw(name.link);
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
  unlink_or_throw(name.link);
  unlink_or_throw(image);
  if (parts) remove_parts(*parts);
  std::string text = "removed " + escape(reference) + "\n";
  for (const fs::path& point : mounts) {
    text += "It is mounted on " + quote(point.native()) +
            " until that is unmounted; programs that run go on\n";
  }
  return text;
} catch (const fs::filesystem_error& error) {
  throw Error(ExitCode::kCannotWrite, "cannot remove " + escape(reference) + ": " + error.what());
}

}  // namespace pyram::registry
