#include "launcher/mounts.h"

#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "launcher/daemon.h"
#include "launcher/runtime_folder.h"
#include "launcher/system.h"
#include "support/error.h"
#include "support/image_key.h"
#include "support/image_layout.h"

namespace pyram::launcher {
namespace {

// What looking for a mount can find.
struct Found {
  std::optional<Root> root;
  int error = 0;  // Why there is none; ENOTCONN: its daemon is dead.
};

Found open_root(std::string path) {
  const std::string loader = path + '/' + layout::kLoader;
  UniqueFd fd = open_path(loader.c_str());
  if (!fd) return {std::nullopt, errno};
  return {Root{std::move(path), std::move(fd)}, 0};
}

// A mount that root made for everybody. The registry is believed only if nobody else could have
// written it.
std::optional<Root> system_mount(const Image& image) {
  const UniqueFd registry = open_path(kSystemMountRegistry, O_DIRECTORY | O_NOFOLLOW);
  struct stat status {};
  if (!registry || ::fstat(registry.get(), &status) != 0 || status.st_uid != 0 ||
      (status.st_mode & 022) != 0) {
    return std::nullopt;
  }
  auto target = read_link(image.key.c_str(), registry.get());
  if (!target || !target->starts_with('/')) return std::nullopt;
  return open_root(*std::move(target)).root;
}

// An image's place in the run-time folder.
class UserMount {
 public:
  UserMount(RuntimeFolder folder, const Image& image)
      : folder_(std::move(folder)), name_(image.stem + '-' + image.key), path_(folder_ / name_) {}

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool shared() const { return folder_.shared(); }
  [[nodiscard]] Found open() const { return open_root(path_); }

  // Waits until no other start is at work on this image.
  [[nodiscard]] UniqueFd lock() const {
    const std::string file = name_ + ".lock";
    UniqueFd fd(
        ::openat(folder_.fd(), file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) {
      throw system_error(ExitCode::kLauncherFailed, errno, "write " + quote(folder_ / file),
                         "set XDG_RUNTIME_DIR to a folder of yours with room in it");
    }
    while (::flock(fd.get(), LOCK_EX) != 0) {
      if (errno != EINTR) {
        throw system_error(ExitCode::kLauncherFailed, errno, "lock " + quote(folder_ / file));
      }
    }
    return fd;
  }

  void make_mount_point() const {
    if (::mkdirat(folder_.fd(), name_.c_str(), 0700) != 0 && errno != EEXIST) {
      throw system_error(ExitCode::kLauncherFailed, errno, "make the mount point " + quote(path_));
    }
  }

  // REQUIRES: the lock, and that the mount answers ENOTCONN: nobody serves it any more, so what
  // still uses it gets nothing but errors already.
  void remove_dead_mount() const {
    if (::umount2(path_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return;
    if (const auto helper = find_companion({}, "fusermount3")) {
      if (run_quietly({*helper, "-u", "-z", "-q", "--", path_}) == 0) return;
    }
    throw Error(ExitCode::kLauncherFailed, "cannot remove the dead mount on " + quote(path_) +
                                               "; run fusermount3 -u -z on it");
  }

 private:
  RuntimeFolder folder_;
  std::string name_;
  std::string path_;
};

std::string find_pyram_mount(const Executable& self) {
  if (auto program = find_companion(self, "pyram-mount")) return *std::move(program);
  throw Error(ExitCode::kLauncherFailed,
              "cannot find pyram-mount, neither beside pyram nor in PATH; install both in one "
              "folder");
}

void mount_new(const UserMount& mount, const Image& image, const Settings& settings,
               const Executable& self, bool to_ram) {
  std::vector<std::string> arguments{find_pyram_mount(self), "--idle-timeout",
                                     settings.idle_timeout};
  if (settings.cache_size) {
    arguments.insert(arguments.end(), {"--cache-size", *settings.cache_size});
  }
  if (to_ram) arguments.insert(arguments.end(), {"--prefetch", "all"});
  // A service that starts as root and then becomes another user reads on as that user. An image
  // that others may not read stays closed to them.
  if (mount.shared() && (image.status.st_mode & S_IROTH) != 0) {
    arguments.insert(arguments.end(), {"-o", "allow_other"});
  }
  arguments.insert(arguments.end(), {"--", image.path, mount.path()});
  start_daemon(arguments);
}

// What a mount that we can't use any way says. ENOENT after a mount was made: the image has no
// interpreter where one should be.
[[noreturn]] void report_unusable(const Image& image, const std::string& path, int error) {
  if (error == ENOENT) {
    throw Error(ExitCode::kLauncherFailed, "cannot start " + quote(image.path) + ": it has no " +
                                               layout::kLoader +
                                               "; make the image with pyram-image build");
  }
  throw system_error(ExitCode::kLauncherFailed, error, "use the mount on " + quote(path));
}

Root make_user_mount(const Image& image, const Settings& settings, const Executable& self,
                     bool to_ram) {
  if (settings.backend == Backend::kRoot && ::geteuid() != 0) {
    throw Error(ExitCode::kLauncherFailed,
                "cannot mount directly (PYRAM_BACKEND=root): only root may; leave the variable "
                "unset");
  }
  const UserMount mount(RuntimeFolder::find_or_make(), image);
  const UniqueFd lock = mount.lock();
  // While we waited for the lock another start may have mounted it.
  Found found = mount.open();
  if (found.root) return *std::move(found.root);
  if (found.error == ENOTCONN) mount.remove_dead_mount();
  mount.make_mount_point();
  // An idle time of a second or two may end between readiness and our first look.
  constexpr int kAttempts = 5;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    mount_new(mount, image, settings, self, to_ram);
    found = mount.open();
    if (found.root) return *std::move(found.root);
  }
  report_unusable(image, mount.path(), found.error);
}

}  // namespace

Root provide_root(const Image& image, const Settings& settings, const Executable& self,
                  bool to_ram) {
  if (settings.allows(Backend::kSystem)) {
    if (auto root = system_mount(image)) return *std::move(root);
  }
  if (settings.allows(Backend::kUser)) {
    if (auto folder = RuntimeFolder::find()) {
      if (auto found = UserMount(*std::move(folder), image).open(); found.root) {
        return *std::move(found.root);
      }
    }
  }
  if (settings.allows(Backend::kFuse) || settings.allows(Backend::kRoot)) {
    return make_user_mount(image, settings, self, to_ram);
  }
  throw Error(ExitCode::kLauncherFailed, "there is no " + std::string(name_of(*settings.backend)) +
                                             " mount of " + quote(image.path) +
                                             ", and PYRAM_BACKEND allows nothing else; unset it");
}

}  // namespace pyram::launcher
