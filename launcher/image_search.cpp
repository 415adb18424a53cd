#include "launcher/image_search.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "launcher/system.h"
#include "support/error.h"
#include "support/image_key.h"
#include "support/image_names.h"
#include "support/image_reference.h"

namespace pyram::launcher {
namespace {

constexpr std::size_t kLongestStem = 64;

std::string_view name_of_file(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// A directory's name made of the file's: colons would end a loader's search path, and the rest is
// for the person who reads `mount`.
std::string stem_of(std::string_view path) {
  std::string_view name = name_of_file(path);
  if (name.ends_with(kImageSuffix) && name.size() > kImageSuffix.size())
    name.remove_suffix(kImageSuffix.size());
  std::string stem(name.substr(0, kLongestStem));
  std::replace_if(
      stem.begin(), stem.end(),
      [](char c) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '+' || c == '-';
        return !plain;
      },
      '_');
  return stem;
}

// Nothing when there is no such file. Every other failure is an error: going on to another image
// than the one that was meant would hide it.
std::optional<ChosenImage> open_image(const std::string& path, bool must_be_readable = true) {
  const UniqueFd fd = open_path(path.c_str());
  if (!fd) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    if (errno == EACCES && !must_be_readable) return std::nullopt;
    throw system_error(ExitCode::kLauncherFailed, errno, "open the image " + quote(path));
  }
  ChosenImage image;
  if (::fstat(fd.get(), &image.status) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno, "look at the image " + quote(path));
  }
  if (!S_ISREG(image.status.st_mode) && !S_ISBLK(image.status.st_mode) && !image.is_directory()) {
    throw Error(ExitCode::kLauncherFailed,
                "cannot use the image " + quote(path) +
                    ": it is not a regular file; give the .sqfs file, the block device, or the "
                    "directory that the image was unpacked to");
  }
  image.path = path_of(fd.get(), path);
  image.stem = stem_of(image.path);
  image.key = image_key(image.path, image.status);
  return image;
}

// Whether an image that is given by this name may be a directory called so.
bool can_be_directory(std::string_view name) { return !name.empty() && name.front() != '.'; }

[[noreturn, gnu::cold]] void report_missing_name(std::string_view name,
                                                 const std::vector<std::string>& directories,
                                                 bool named) {
  throw Error(ExitCode::kLauncherFailed,
              no_such_image(name, directories, Unpacked::kToo) +
                  (named ? "; for a file, write its path with a '/'"
                         : "; make one with pyram-image build, or give one with --image"));
}

// What a name with a '/' in it may be, where there is no such file: that of a pulled image. `error`
// says why there is none.
[[gnu::cold]] ChosenImage find_pulled(const std::string& name, int error) {
  const auto reference = parse_image_reference(name);
  if (!reference) {
    throw system_error(ExitCode::kLauncherFailed, error, "open the image " + quote(name),
                       "make it with pyram-image build, or give another with --image");
  }
  for (const std::string& place : stored_places(*reference)) {
    if (auto image = open_image(place, false)) return *std::move(image);
  }
  throw Error(ExitCode::kLauncherFailed, not_pulled(name));
}

}  // namespace

ChosenImage find_image(const std::optional<std::string_view>& wanted, const Executable& self) {
  const std::string name(wanted.value_or("default"));
  if (wanted && is_image_file(name)) {
    if (auto image = open_image(name)) return *std::move(image);
    return find_pulled(name, errno);
  }
  if (!wanted) {
    for (const std::string& directory : self.directories()) {
      const auto path = build_tree_image(directory);
      if (!path) continue;
      if (auto image = open_image(*path)) return *std::move(image);
    }
  }
  const std::vector<std::string> directories = image_directories(self.directories());
  // Files first, everywhere: a start that finds one looks no more often than it must.
  for (const std::string_view suffix : {kImageSuffix, std::string_view()}) {
    if (suffix.empty() && !can_be_directory(name)) continue;
    for (const std::string& directory : directories) {
      const std::string path = std::string(directory).append("/").append(name).append(suffix);
      // HOME may be another user's, after a change of user that kept the environment.
      auto image = open_image(path, false);
      if (image && (!suffix.empty() || image->is_directory())) return *std::move(image);
    }
  }
  report_missing_name(name, directories, wanted.has_value());
}

}  // namespace pyram::launcher
