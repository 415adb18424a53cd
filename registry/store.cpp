#include "registry/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <set>
#include <tuple>

#include "support/error.h"
#include "support/unique_fd.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

fs::path own_directory() {
  const char* data = std::getenv("XDG_DATA_HOME");
  if (::geteuid() == 0 && (data == nullptr || *data != '/')) return kSystemStore;
  if (auto own = user_store()) return *std::move(own);
  throw Error(
      ExitCode::kCannotWrite,
      "cannot keep images: there is no home directory; set HOME or XDG_DATA_HOME, or name a "
      "file with -o");
}

void make_directories(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw system_error(ExitCode::kCannotWrite, error.value(),
                       "make the directory " + quote(directory.native()));
  }
}

std::string digits_of(const std::string& digest) { return digest.substr(digest.find(':') + 1); }

}  // namespace

Store::Store() : directory_(own_directory()) {
  for (const char* part : {"images", "partial", "names"}) make_directories(directory_ / part);
}

fs::path Store::image(const std::string& digest) const {
  return directory_ / "images" / (digits_of(digest) + ".sqfs");
}

fs::path Store::partial(const std::string& digest) const {
  return directory_ / "partial" / digits_of(digest);
}

std::vector<fs::path> Store::similar(const ImageReference& reference,
                                     const std::string& digest) const {
  // What each of them costs is reading it once.
  constexpr std::size_t kMost = 4;
  std::error_code error;
  const fs::path name = directory_ / name_in_store(reference);
  const std::string repository = fs::path(reference.repository).filename().native();
  std::set<fs::path> own;
  for (const auto& entry : fs::directory_iterator(name.parent_path(), error)) {
    const std::string other = entry.path().filename().native();
    if (!other.starts_with(repository + ':') && !other.starts_with(repository + '@')) continue;
    const fs::path target = fs::read_symlink(entry.path(), error);
    if (!error) own.insert(target.filename());
  }
  struct Found {
    bool is_other;
    fs::file_time_type time;
    fs::path path;
  };
  std::vector<Found> all;
  for (const auto& entry : fs::directory_iterator(directory_ / "images", error)) {
    if (entry.path() == image(digest) || entry.path().extension() != ".sqfs") continue;
    all.push_back(
        {!own.contains(entry.path().filename()), entry.last_write_time(error), entry.path()});
  }
  std::ranges::sort(all, [](const Found& a, const Found& b) {
    return std::tie(a.is_other, b.time, a.path) < std::tie(b.is_other, a.time, b.path);
  });
  if (all.size() > kMost) all.resize(kMost);
  std::vector<fs::path> result;
  for (Found& found : all) result.push_back(std::move(found.path));
  return result;
}

void Store::set_name(const ImageReference& reference, const std::string& digest) const {
  const fs::path name = directory_ / name_in_store(reference);
  const fs::path place = name.parent_path();
  make_directories(place);
  // Relative: a store may be moved, or be looked at from elsewhere.
  const fs::path target = image(digest).lexically_relative(place);
  const fs::path next = place / (".new-" + std::to_string(::getpid()));
  ::unlink(next.c_str());
  const UniqueFd directory(::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::symlink(target.c_str(), next.c_str()) != 0 ||
      ::rename(next.c_str(), name.c_str()) != 0 || ::fsync(directory.get()) != 0) {
    const int error = errno;
    ::unlink(next.c_str());
    throw system_error(ExitCode::kCannotWrite, error, "write " + quote(name.native()));
  }
}

}  // namespace pyram::registry
