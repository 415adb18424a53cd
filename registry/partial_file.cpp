#include "registry/partial_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "support/amounts.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::registry {
namespace {

bool has_room(int fd, std::uint64_t more) {
  struct statvfs status {};
  return ::fstatvfs(fd, &status) != 0 ||
         static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize >= more;
}

}  // namespace

PartialFile::PartialFile(std::filesystem::path path) : path_(std::move(path)) {
  for (;;) {
    file_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!file_) {
      throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(path_.native()));
    }
    while (::flock(file_.get(), LOCK_EX) != 0) {
      if (errno != EINTR) {
        throw system_error(ExitCode::kCannotWrite, errno, "lock " + quote(path_.native()));
      }
    }
    // Who had it may have put it in place, or removed it.
    struct stat ours {};
    struct stat named {};
    if (::fstat(file_.get(), &ours) == 0 && ::stat(path_.c_str(), &named) == 0 &&
        ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
      size_ = static_cast<std::uint64_t>(ours.st_size);
      return;
    }
  }
}

void PartialFile::reserve(std::uint64_t size) {
  if (size <= size_) return;
  int result = 0;
  do {
    result = ::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return;
  const int error = errno;
  // Some file systems can't reserve: then at least look.
  const bool is_unable = error == EOPNOTSUPP || error == ENOSYS || error == EINVAL;
  if (is_unable && has_room(file_.get(), size - size_)) return;
  if (size_ == 0) remove();
  throw system_error(
      ExitCode::kCannotWrite, is_unable ? ENOSPC : error,
      "take the room for " + megabytes(size) + " in " + quote(path_.parent_path().native()),
      "make room there");
}

void PartialFile::append(std::span<const std::byte> bytes) {
  write_full(file_.get(), bytes, quote(path_.native()));
  size_ += bytes.size();
}

void PartialFile::clear() {
  // What was reserved goes too, and comes back as it is written.
  if (::ftruncate(file_.get(), 0) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(path_.native()));
  }
  size_ = 0;
}

void PartialFile::remove() { ::unlink(path_.c_str()); }

}  // namespace pyram::registry
