#include "launcher/image_search.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "launcher/settings.h"
#include "launcher/system.h"
#include "support/error.h"
#include "support/image_key.h"
#include "support/image_reference.h"

namespace pyram::launcher {
namespace {

constexpr std::string_view kSuffix = ".sqfs";
constexpr std::size_t kLongestStem = 64;

std::string_view directory_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string_view name_of_file(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// The default image of the build tree that a program's directory is in, if it is in one.
std::optional<std::string> build_tree_image(const std::string& directory) {
  const std::string_view build = directory_of(directory_of(directory));
  if (name_of_file(directory) != "bin" || name_of_file(build) != "build") return std::nullopt;
  return std::string(build).append("/images/default.sqfs");
}

// A directory's name made of the file's: colons would end a loader's search path, and the rest is
// for the person who reads `mount`.
std::string stem_of(std::string_view path) {
  std::string_view name = name_of_file(path);
  if (name.ends_with(kSuffix) && name.size() > kSuffix.size()) name.remove_suffix(kSuffix.size());
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
  if (!S_ISREG(image.status.st_mode) && !S_ISBLK(image.status.st_mode)) {
    throw Error(ExitCode::kLauncherFailed,
                "cannot use the image " + quote(path) +
                    ": it is not a regular file; give the .sqfs file, or the block device");
  }
  image.path = path_of(fd.get(), path);
  image.stem = stem_of(image.path);
  image.key = image_key(image.path, image.status);
  return image;
}

void add_names(const std::string& directory, std::vector<std::string>& names) {
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  const std::unique_ptr<DIR, Close> open(::opendir(directory.c_str()));
  if (!open) return;
  while (const dirent* entry = ::readdir(open.get())) {  // NOLINT(concurrency-mt-unsafe)
    const std::string_view name = static_cast<const char*>(entry->d_name);
    if (!name.ends_with(kSuffix) || name.size() == kSuffix.size()) continue;
    names.emplace_back(name.substr(0, name.size() - kSuffix.size()));
  }
}

[[noreturn]] void report_missing_name(std::string_view name,
                                      const std::vector<std::string>& directories, bool named) {
  std::vector<std::string> names;
  std::string places;
  for (const std::string& directory : directories) {
    add_names(directory, names);
    places.append(places.empty() ? "" : ", ").append(directory);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string known;
  for (const std::string& other : names) known.append(known.empty() ? "" : ", ").append(other);

  std::string message = "no image " + quote(name) + " in " + places + "; ";
  message += known.empty() ? std::string("there is no image at all")
                           : (names.size() == 1 ? "there is: " : "there are: ") + known;
  message += named ? "; for a file, write its path with a '/'"
                   : "; make one with pyram-image build, or give one with --image";
  throw Error(ExitCode::kLauncherFailed, message);
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
  throw Error(ExitCode::kLauncherFailed,
              "the image " + quote(name) + " is neither a file nor pulled; run pyram-image pull " +
                  escape(name));
}

}  // namespace

std::vector<std::string> image_directories(const Executable& self) {
  std::vector<std::string> directories;
  const auto add = [&](std::string directory) {
    if (std::find(directories.begin(), directories.end(), directory) == directories.end()) {
      directories.push_back(std::move(directory));
    }
  };
  // Only absolute values: the specification of these variables says to ignore others.
  if (const auto data = environment_variable("XDG_DATA_HOME"); data && data->starts_with('/')) {
    add(*data + "/pyram/images");
  } else if (const auto home = environment_variable("HOME"); home && home->starts_with('/')) {
    add(*home + "/.local/share/pyram/images");
  }
  // A pyram installed under another prefix brings its images there.
  for (const std::string& directory : self.directories()) {
    if (name_of_file(directory) != "bin" || build_tree_image(directory)) continue;
    add(std::string(directory_of(directory)) + "/share/pyram/images");
  }
  add("/usr/local/share/pyram/images");
  add("/usr/share/pyram/images");
  return directories;
}

ChosenImage find_image(const std::optional<std::string_view>& wanted, const Executable& self) {
  const std::string name(wanted.value_or("default"));
  if (wanted && (name.find('/') != std::string::npos || name.ends_with(kSuffix))) {
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
  const std::vector<std::string> directories = image_directories(self);
  for (const std::string& directory : directories) {
    const std::string path = directory + '/' + name + std::string(kSuffix);
    // HOME may be another user's, after a change of user that kept the environment.
    if (auto image = open_image(path, false)) return *std::move(image);
  }
  report_missing_name(name, directories, wanted.has_value());
}

}  // namespace pyram::launcher
