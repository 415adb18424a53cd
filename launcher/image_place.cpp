#include "launcher/image_place.h"

#include <poll.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <utility>

#include "launcher/executable.h"
#include "launcher/start_daemon.h"
#include "launcher/system.h"
#include "support/error.h"
#include "support/exact_modes.h"
#include "support/image_layout.h"

namespace pyram::launcher {

namespace {

UniqueFd open_lock_file(int directory, const char* name) {
  const ExactModes exact;
  return UniqueFd(::openat(directory, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
}

// One that we may not open is an earlier version's, which let a umask take bits away.
[[gnu::cold]] UniqueFd open_mended_lock_file(int directory, const char* name) {
  if (::fchmodat(directory, name, 0600, 0) != 0) return {};
  return open_lock_file(directory, name);
}

// Mends the mode of a mount point that an earlier version made.
[[gnu::cold]] void let_us_enter(const std::string& path) {
  struct stat status {};
  constexpr mode_t kMode = 0700;
  if (::lstat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) ||
      (status.st_mode & kMode) == kMode) {
    return;
  }
  static_cast<void>(::chmod(path.c_str(), kMode));
}

}  // namespace

Found open_root(std::string path, const std::string& seen_from) {
  const std::string loader = seen_from + path + '/' + layout::kLoader;
  UniqueFd fd = open_path(loader.c_str());
  if (!fd) return {std::nullopt, errno};
  return {Root{std::move(path), std::move(fd)}, 0};
}

void throw_no_interpreter(const ChosenImage& image) {
  throw Error(ExitCode::kBadImage, "cannot start the image " + quote(image.path) + ": it has no " +
                                       layout::kLoader + "; make it with pyram-image build");
}

ImagePlace::ImagePlace(const RuntimeDirectory& directory, const ChosenImage& image)
    : directory_(directory), name_(image.stem + '-' + image.key), path_(directory / name_) {}

Found ImagePlace::open_mount() const {
  Found found = open_root(path_);
  // The process id may be one of another pid namespace: then the mount itself has to say.
  struct statfs status {};
  if (found.root && daemon_seems_dead() && ::statfs(path_.c_str(), &status) != 0) {
    return {std::nullopt, errno};
  }
  return found;
}

bool ImagePlace::is_mounted() const {
  struct stat mount_point {};
  struct stat parent {};
  return ::lstat(path_.c_str(), &mount_point) == 0 && ::fstat(directory_.fd(), &parent) == 0 &&
         mount_point.st_dev != parent.st_dev;
}

void ImagePlace::note_daemon(pid_t daemon) const {
  const std::string name = name_ + ".pid";
  ::unlinkat(directory_.fd(), name.c_str(), 0);
  if (daemon == 0) return;
  [[maybe_unused]] const int result =
      ::symlinkat(std::to_string(daemon).c_str(), directory_.fd(), name.c_str());
}

bool ImagePlace::daemon_seems_dead() const {
  const auto text = read_link((name_ + ".pid").c_str(), directory_.fd());
  pid_t pid = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc()) {
    return false;
  }
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return errno == ESRCH;
  // A process that ended and whose parent doesn't care is still there.
  pollfd ended{process.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 1;
}

UniqueFd ImagePlace::lock() const {
  const std::string file = name_ + ".lock";
  UniqueFd fd = open_lock_file(directory_.fd(), file.c_str());
  if (!fd && errno == EACCES) fd = open_mended_lock_file(directory_.fd(), file.c_str());
  if (!fd) {
    throw system_error(ExitCode::kLauncherFailed, errno, "write " + quote(directory_ / file),
                       "set XDG_RUNTIME_DIR to a directory of yours with room in it");
  }
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) {
      throw system_error(ExitCode::kLauncherFailed, errno, "lock " + quote(directory_ / file));
    }
  }
  return fd;
}

void ImagePlace::make_directory(const std::string& path) {
  const ExactModes exact;
  if (::mkdir(path.c_str(), 0700) == 0) return;
  if (errno == EEXIST) {
    let_us_enter(path);
  } else {
    throw system_error(ExitCode::kLauncherFailed, errno, "make the mount point " + quote(path),
                       "set XDG_RUNTIME_DIR to a directory of yours with room in it");
  }
}

[[gnu::cold]] void ImagePlace::unmount() const {
  if (::umount2(path_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return;
  if (const auto helper = find_companion({}, "fusermount3")) {
    if (run_quietly({*helper, "-u", "-z", "-q", path_}) == 0) return;
  }
  throw Error(ExitCode::kLauncherFailed,
              "cannot unmount " + quote(path_) + "; run fusermount3 -u -z on it");
}

}  // namespace pyram::launcher
