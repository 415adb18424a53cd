#include "support/image_names.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <memory>
#include <utility>

#include "support/error.h"
#include "support/image_reference.h"
#include "support/nearest.h"

namespace pyram {
namespace {

constexpr char kInData[] = "/pyram/images";

std::string_view directory_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string_view name_of_file(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// Only absolute values: the specification of these variables says to ignore others.
const char* absolute_variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr && *value == '/' ? value : nullptr;
}

std::optional<std::string> pulled_image(std::string_view wanted) {
  const auto reference = parse_image_reference(wanted);
  if (!reference) return std::nullopt;
  for (std::string& place : stored_places(*reference)) {
    if (::access(place.c_str(), F_OK) == 0) return std::move(place);
  }
  return std::nullopt;
}

// A unit's instance as systemd-escape --unescape has it: "-" is a slash, "\\x2d" the character.
std::string unescape_unit_name(std::string_view name) {
  std::string result;
  for (std::size_t i = 0; i < name.size(); ++i) {
    unsigned code = 0;
    const char* const digits = name.data() + i + 2;
    if (name.substr(i).starts_with("\\x") && name.size() >= i + 4 &&
        std::from_chars(digits, digits + 2, code, 16).ptr == digits + 2) {
      result.push_back(static_cast<char>(code));
      i += 3;
    } else {
      result.push_back(name[i] == '-' ? '/' : name[i]);
    }
  }
  return result;
}

}  // namespace

bool is_image_file(std::string_view wanted) {
  return wanted.find('/') != std::string_view::npos || wanted.ends_with(kImageSuffix);
}

std::optional<std::string> users_data(std::string_view below) {
  if (const char* const data = absolute_variable("XDG_DATA_HOME")) {
    return std::string(data).append(below);
  }
  if (const char* const home = absolute_variable("HOME")) {
    return std::string(home).append("/.local/share").append(below);
  }
  return std::nullopt;
}

std::optional<std::string> users_images() { return users_data(kInData); }

std::vector<std::string> image_directories(const std::vector<std::string>& programs) {
  std::vector<std::string> directories;
  const auto add = [&](std::string directory) {
    if (std::find(directories.begin(), directories.end(), directory) == directories.end()) {
      directories.push_back(std::move(directory));
    }
  };
  if (auto own = users_images()) add(*std::move(own));
  // What is installed under another prefix brings its images there. That of Debian's packages comes
  // last: an administrator's images go before those of packages.
  for (const std::string& directory : programs) {
    if (name_of_file(directory) != "bin" || build_tree_image(directory)) continue;
    std::string beside = std::string(directory_of(directory)) + "/share" + kInData;
    if (beside != kPackagedImages) add(std::move(beside));
  }
  add(kLocalImages);
  add(kPackagedImages);
  return directories;
}

std::optional<std::string> build_tree_image(const std::string& program_directory) {
  const std::string_view build = directory_of(directory_of(program_directory));
  if (name_of_file(program_directory) != "bin" || name_of_file(build) != "build") {
    return std::nullopt;
  }
  return std::string(build).append("/images/default.sqfs");
}

[[gnu::cold]] void add_image_names(const std::string& directory, std::vector<std::string>& names,
                                   Unpacked unpacked) {
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  const std::unique_ptr<DIR, Close> open(::opendir(directory.c_str()));
  if (!open) return;
  while (const dirent* entry = ::readdir(open.get())) {  // NOLINT(concurrency-mt-unsafe)
    std::string_view name = static_cast<const char*>(entry->d_name);
    if (name.front() == '.') continue;  // Such as one that is being installed.
    if (name.ends_with(kImageSuffix)) {
      name.remove_suffix(kImageSuffix.size());
    } else if (unpacked == Unpacked::kNot || entry->d_type != DT_DIR) {
      continue;
    }
    names.emplace_back(name);
  }
}

[[gnu::cold]] std::vector<std::string> own_directories() {
  std::array<char, PATH_MAX> self{};
  const ssize_t size = ::readlink("/proc/self/exe", self.data(), self.size());
  if (size <= 0) return {};
  return {std::string(directory_of({self.data(), static_cast<std::size_t>(size)}))};
}

[[gnu::cold]] std::string no_such_image(std::string_view name,
                                        const std::vector<std::string>& directories,
                                        Unpacked unpacked) {
  std::vector<std::string> names;
  std::string places;
  for (const std::string& directory : directories) {
    add_image_names(directory, names, unpacked);
    places.append(places.empty() ? "" : ", ").append(directory);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::string known;
  for (const std::string& other : names) known.append(known.empty() ? "" : ", ").append(other);
  const std::vector<std::string_view> views(names.begin(), names.end());
  std::string message =
      "no image " + quote(name) + suggestion(name, views) + " in " + places + "; ";
  message += known.empty() ? std::string("there is no image at all")
                           : (names.size() == 1 ? "there is: " : "there are: ") + known;
  return message;
}

[[gnu::cold]] std::string image_file(std::string_view wanted) {
  std::string file(wanted);
  struct stat status {};
  if (is_image_file(wanted) || wanted.empty()) {
    if (!parse_image_reference(wanted) || ::access(file.c_str(), F_OK) == 0) return file;
    if (auto pulled = pulled_image(wanted)) return *std::move(pulled);
    throw Error(ExitCode::kBadImage, not_pulled(wanted));
  }
  // A directory of the same name is no image: /run/pyram has one for each.
  if (::stat(file.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) return file;
  const std::vector<std::string> programs = own_directories();
  for (const std::string& directory : programs) {
    auto of_build = build_tree_image(directory);
    if (wanted == "default" && of_build && ::access(of_build->c_str(), F_OK) == 0) {
      return *std::move(of_build);
    }
  }
  const std::vector<std::string> directories = image_directories(programs);
  for (const std::string& directory : directories) {
    std::string path = directory + '/' + file + std::string(kImageSuffix);
    if (::access(path.c_str(), F_OK) == 0) return path;
  }
  if (auto pulled = pulled_image(unescape_unit_name(wanted))) return *std::move(pulled);
  throw Error(ExitCode::kBadImage,
              no_such_image(wanted, directories) + "; for a file, write its path with a '/'");
}

}  // namespace pyram
