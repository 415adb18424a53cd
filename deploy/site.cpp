#include "deploy/site.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "image-builder/output/integrity.h"
#include "image-builder/output_file.h"
#include "support/error.h"

namespace pyram::deploy {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kLongestName = 20;  // A user's name has at most 31.
constexpr std::size_t kVersionDigits = 12;
constexpr std::uint64_t kReserve = std::uint64_t{1} << 20;
constexpr char kCurrent[] = "current.sqfs";
constexpr char kPrevious[] = "previous.sqfs";
constexpr char kUnfinished[] = ".new-";
constexpr std::string_view kSuffix = ".sqfs";

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && name.front() >= 'a' &&
         name.front() <= 'z' && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

// The file's digest, after all of it was checked.
std::string checked_digest(const fs::path& image) {
  (void)builder::verify_image(image, {});
  const auto trailer = builder::read_trailer(image);
  return trailer ? builder::digest_text(trailer->digest) : std::string();
}

bool is_whole(const fs::path& image, const std::string& digest) {
  try {
    return checked_digest(image) == digest;
  } catch (const Error&) {
    return false;
  }
}

void check_room(const fs::path& image, const fs::path& directory) {
  std::error_code failed;
  const std::uint64_t needed = fs::file_size(image, failed) + kReserve;
  if (failed) {
    throw system_error(ExitCode::kBadImage, failed.value(), "read " + quote(image.native()));
  }
  struct statvfs there {};
  if (::statvfs(directory.c_str(), &there) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "look at " + quote(directory.native()));
  }
  const std::uint64_t free = std::uint64_t{there.f_bavail} * there.f_frsize;
  if (free >= needed) return;
  constexpr std::uint64_t kMega = 1000000;
  throw Error(ExitCode::kCannotWrite,
              "cannot copy " + quote(image.native()) + " to " + quote(directory.native()) +
                  ": it takes " + std::to_string(needed / kMega + 1) + " MB, and " +
                  std::to_string(free / kMega) + " MB are free; make room there");
}

void sync_directory(const fs::path& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(directory.native()));
  }
}

}  // namespace

std::string version_of(const std::string& digest) {
  return digest.substr(digest.find(':') + 1, kVersionDigits);
}

Site::Site(std::string name, const fs::path& apps)
    : name_(std::move(name)), directory_(apps / name_) {
  if (!is_name(name_)) {
    throw Error(ExitCode::kUsage,
                "a site's name is up to 20 small letters, digits and '-', and "
                "begins with a letter; it cannot be " +
                    quote(name_));
  }
}

std::string Site::target(const char* link) const {
  std::error_code ignored;
  std::string name = fs::read_symlink(directory_ / link, ignored).native();
  if (!name.ends_with(kSuffix) || name.find('/') != std::string::npos) return {};
  name.resize(name.size() - kSuffix.size());
  return name;
}

Versions Site::versions() const { return {target(kCurrent), target(kPrevious)}; }

void Site::create() const {
  std::error_code failed;
  fs::create_directories(directory_, failed);
  if (failed) {
    throw system_error(ExitCode::kCannotWrite, failed.value(),
                       "make the directory " + quote(directory_.native()));
  }
}

UniqueFd Site::lock() const {
  UniqueFd fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    throw system_error(ExitCode::kCannotWrite, errno, "open " + quote(directory_.native()));
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    throw Error(ExitCode::kFailed, "another pyram-app is at work on " + name_ + "; wait for it");
  }
  return fd;
}

Stored Site::store(const fs::path& image, const std::string& digest) const {
  std::string version = version_of(digest);
  const fs::path place = this->image(version);
  // Another file under that name would be another image to the launcher, and lose its mount.
  if (is_whole(place, digest)) return {version, false};
  check_room(image, directory_);
  const builder::UnfinishedFile copy(directory_ / (kUnfinished + version));
  builder::copy_content(image, copy.path());
  if (!is_whole(copy.path(), digest)) {
    throw Error(ExitCode::kVerification, "the copy of " + quote(image.native()) + " in " +
                                             quote(directory_.native()) +
                                             " is not what was checked; check the disk");
  }
  builder::put_in_place(copy.path(), place);
  return {version, true};
}

void Site::set_link(const char* link, const std::string& version) const {
  const fs::path place = directory_ / link;
  if (version.empty()) {
    std::error_code ignored;
    fs::remove(place, ignored);
    return;
  }
  const builder::UnfinishedFile next(directory_ / (std::string(kUnfinished) + link));
  if (::symlink((version + std::string(kSuffix)).c_str(), next.path().c_str()) != 0 ||
      ::rename(next.path().c_str(), place.c_str()) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write the link " + quote(place.native()));
  }
}

void Site::point(const Versions& versions) const {
  // The one that is served comes last.
  set_link(kPrevious, versions.previous);
  set_link(kCurrent, versions.current);
  sync_directory(directory_);
}

void Site::prune() const {
  const Versions kept = versions();
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_, ignored)) {
    const std::string name = entry.path().stem().native();
    const bool is_version = !entry.is_symlink() && entry.path().extension() == kSuffix;
    if (is_version && name != kept.current && name != kept.previous) {
      fs::remove(entry.path(), ignored);
    }
  }
}

void Site::remove() const {
  std::error_code failed;
  fs::remove_all(directory_, failed);
  if (failed) {
    throw system_error(ExitCode::kCannotWrite, failed.value(),
                       "remove " + quote(directory_.native()));
  }
}

}  // namespace pyram::deploy
