#include "launcher/namespace_mount.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "launcher/start_daemon.h"
#include "launcher/system.h"
#include "support/error.h"
#include "support/exact_modes.h"

namespace pyram::launcher {
namespace {

std::optional<ino_t> inode_of(const char* path) {
  struct stat status {};
  if (::stat(path, &status) != 0) return std::nullopt;
  return status.st_ino;
}

constexpr char kOwnMountNamespace[] = "/proc/self/ns/mnt";

std::string note_name(const ImagePlace& place, ino_t origin) {
  return place.name() + ".ns-" + std::to_string(origin);
}

std::string namespace_path(pid_t process) { return "/proc/" + std::to_string(process) + "/ns/mnt"; }

struct Note {
  std::string pid;
  ino_t mount_namespace = 0;
};

std::optional<Note> read_note(const ImagePlace& place, ino_t origin) {
  const std::string name = note_name(place, origin);
  const UniqueFd fd(
      ::openat(place.directory().fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::array<char, 64> buffer{};
  const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
  if (size <= 0) return std::nullopt;
  const std::string_view text(buffer.data(), static_cast<std::size_t>(size));
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  Note note{std::string(text.substr(0, space)), 0};
  for (const char c : note.pid) {
    if (c < '0' || c > '9') return std::nullopt;
  }
  const std::string_view rest = text.substr(space + 1);
  const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), note.mount_namespace);
  if (parsed.ec != std::errc() || note.pid.empty()) return std::nullopt;
  return note;
}

void write_note(const ImagePlace& place, const std::string& name, const std::string& text) {
  const int directory = place.directory().fd();
  const std::string temporary = name + ".new";
  const ExactModes exact;
  const UniqueFd fd(::openat(directory, temporary.c_str(),
                             O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::renameat(directory, temporary.c_str(), directory, name.c_str()) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno,
                       "write " + quote(place.directory() / name));
  }
}

// Joining a mount namespace moves the working directory to its root.
class KeptWorkingDirectory {
 public:
  KeptWorkingDirectory() : directory_(open_path(".")), path_(path_of(directory_.get(), ".")) {}

  // Goes back: by path, so that it is the directory as the joined namespace has it; by descriptor
  // where no path leads there (it was deleted).
  void restore() const {
    struct stat before {};
    struct stat after {};
    if (::fstat(directory_.get(), &before) != 0) return;
    if (::chdir(path_.c_str()) == 0 && ::stat(".", &after) == 0 && after.st_ino == before.st_ino &&
        after.st_dev == before.st_dev) {
      return;
    }
    if (::fchdir(directory_.get()) != 0) {
      throw system_error(ExitCode::kLauncherFailed, errno, "go back to " + quote(path_));
    }
  }

 private:
  UniqueFd directory_;
  std::string path_;
};

}  // namespace

std::optional<Root> join_namespace_mount(const ImagePlace& place) {
  const auto origin = inode_of(kOwnMountNamespace);
  if (!origin) return std::nullopt;
  const auto note = read_note(place, *origin);
  if (!note) return std::nullopt;
  if (note->mount_namespace == *origin) return open_root(place.namespace_path()).root;
  const std::string process = "/proc/" + note->pid;
  const UniqueFd users(::open((process + "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd mounts(::open((process + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!users || !mounts || ::fstat(mounts.get(), &status) != 0 ||
      status.st_ino != note->mount_namespace) {
    return std::nullopt;
  }
  // Held before we join: afterwards there is no way back if an idle unmount came between.
  Found found = open_root(place.namespace_path(), process + "/root");
  if (!found.root) return std::nullopt;

  const KeptWorkingDirectory directory;
  if (::setns(users.get(), CLONE_NEWUSER) != 0) return std::nullopt;
  if (::setns(mounts.get(), CLONE_NEWNS) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno,
                       "join the namespace of the mount on " + quote(place.namespace_path()));
  }
  directory.restore();
  return std::move(found.root);
}

pid_t make_namespace_mount(const ImagePlace& place,
                           const std::vector<std::string>& daemon_command) {
  const pid_t daemon = start_daemon_in_namespaces(daemon_command);
  const auto outside = inode_of(kOwnMountNamespace);
  const auto inside = inode_of(namespace_path(daemon).c_str());
  if (!inside || !outside) {
    throw Error(ExitCode::kLauncherFailed,
                "cannot find the namespaces of pyram-mount; is /proc mounted?");
  }
  const std::string text = std::to_string(daemon) + ' ' + std::to_string(*inside) + '\n';
  write_note(place, note_name(place, *inside), text);
  write_note(place, note_name(place, *outside), text);
  return daemon;
}

void forget_namespace_mount(const ImagePlace& place, pid_t daemon) {
  for (const std::string& path : {std::string(kOwnMountNamespace), namespace_path(daemon)}) {
    if (const auto origin = inode_of(path.c_str())) {
      ::unlinkat(place.directory().fd(), note_name(place, *origin).c_str(), 0);
    }
  }
}

}  // namespace pyram::launcher
