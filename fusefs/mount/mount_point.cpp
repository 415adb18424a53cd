#include "fusefs/mount/mount_point.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "fusefs/status.h"
#include "support/child.h"
#include "support/error.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/process.h"
#include "support/text.h"

namespace pyram {
namespace {

namespace fs = std::filesystem;

constexpr char kDevice[] = "/dev/fuse";
constexpr char kType[] = "fuse.pyram";
constexpr char kFusermount[] = "fusermount3";
constexpr char kMountTable[] = "/proc/self/mountinfo";

Error bad_mount_point(const fs::path& directory, std::string_view why) {
  return {ExitCode::kBadMountPoint,
          "cannot mount on " + quote(directory.native()) + ": " + std::string(why)};
}

// mountinfo writes white space and backslashes as \OOO.
std::string unescape(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      result.push_back(static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 |
                                         (text[i + 3] - '0')));
      i += 3;
    } else {
      result.push_back(text[i]);
    }
  }
  return result;
}

bool is_empty_directory(const fs::path& directory) {
  std::error_code error;
  const fs::directory_iterator first(directory, error);
  return error || first == fs::directory_iterator();
}

UnmountResult unmount_by_helper(const fs::path& directory, bool detach) {
  Command command{.arguments = {kFusermount, "-u"}};
  if (detach) command.arguments.emplace_back("-z");
  command.arguments.insert(command.arguments.end(), {"--", directory.native()});
  const Outcome outcome = run(command);
  if (outcome.ok()) return UnmountResult::kDone;
  const std::string said = outcome.last_line();
  if (said.find(describe_errno(EBUSY)) != std::string::npos) return UnmountResult::kBusy;
  if (said.find("not found") != std::string::npos) return UnmountResult::kNotMounted;
  throw Error(ExitCode::kBadMountPoint,
              "cannot unmount " + quote(directory.native()) + ": " + said);
}

// `flags`: 0, MNT_EXPIRE or MNT_DETACH.
UnmountResult unmount_resolved(const fs::path& directory, int flags) {
  if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW | flags) == 0) return UnmountResult::kDone;
  switch (errno) {
    case EPERM:
      return unmount_by_helper(directory, flags == MNT_DETACH);
    case EBUSY:
    case EAGAIN:
      return UnmountResult::kBusy;
    case EINVAL:
    case ENOENT:
      return UnmountResult::kNotMounted;
    default:
      throw system_error(ExitCode::kBadMountPoint, errno, "unmount " + quote(directory.native()));
  }
}

// Whether a FUSE file system is mounted there and its daemon is gone. The kernel answers much out
// of its caches even then, but not this.
bool is_dead_mount(const fs::path& directory) {
  struct statfs status {};
  return ::statfs(directory.c_str(), &status) != 0 && errno == ENOTCONN;
}

// The directory, ready to be mounted on.
fs::path prepare(const MountRequest& request) {
  // A mount whose daemon died is of no use. There may be several, one above the other.
  while (is_dead_mount(request.directory)) {
    const fs::path stale = resolve_mount_point(request.directory);
    if (unmount_resolved(stale, MNT_DETACH) != UnmountResult::kDone) {
      throw bad_mount_point(stale, "the daemon of an earlier mount died; unmount it");
    }
  }
  struct stat status {};
  if (::stat(request.directory.c_str(), &status) != 0) {
    if (errno == ENOENT) throw bad_mount_point(request.directory, "it does not exist; create it");
    throw bad_mount_point(request.directory, describe_errno(errno));
  }
  if (!S_ISDIR(status.st_mode)) {
    throw bad_mount_point(request.directory, "it is not a directory; give an empty directory");
  }
  fs::path directory = resolve_mount_point(request.directory);
  if (const auto mounted = find_mount(directory); mounted && mounted->type == kType) {
    throw bad_mount_point(directory,
                          quote(mounted->source) + " is mounted there already; unmount it");
  }
  if (!request.nonempty && !is_empty_directory(directory)) {
    throw bad_mount_point(directory, "it is not empty; give an empty directory");
  }
  return directory;
}

UniqueFd open_device() {
  UniqueFd device(::open(kDevice, O_RDWR | O_CLOEXEC));
  if (device) return device;
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
    throw Error(ExitCode::kNoFuse, std::string("cannot open ") + kDevice + ": " +
                                       describe_errno(errno) +
                                       "; load the kernel's module (modprobe fuse), or give the "
                                       "container that device");
  }
  throw system_error(ExitCode::kNoFuse, errno, std::string("open ") + kDevice,
                     "it has to be readable and writable for you (chmod 666 /dev/fuse, as udev "
                     "does)");
}

// Throws nothing but an errno value.
int mount_directly(const MountRequest& request, const fs::path& directory, int device) {
  std::string data = "fd=" + std::to_string(device) +
                     ",rootmode=40000,user_id=" + std::to_string(::getuid()) +
                     ",group_id=" + std::to_string(::getgid()) + ",default_permissions";
  if (request.allow_other) data += ",allow_other";
  unsigned long flags = MS_RDONLY;
  if (!request.allow_set_id) flags |= MS_NOSUID;
  if (!request.allow_devices) flags |= MS_NODEV;
  if (request.no_exec) flags |= MS_NOEXEC;
  if (::mount(request.source.c_str(), directory.c_str(), kType, flags, data.c_str()) == 0) {
    return 0;
  }
  return errno;
}

// fusermount3 splits at commas, but not at those that a backslash precedes.
std::string escape(std::string_view value) {
  std::string result;
  for (const char c : value) {
    if (c == ',' || c == '\\') result.push_back('\\');
    result.push_back(c);
  }
  return result;
}

UniqueFd receive_descriptor(int socket) {
  char byte = 0;
  iovec piece{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  const cmsghdr* header = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof(descriptor));
  return UniqueFd(descriptor);
}

// fusermount3 mounts for us and hands the open /dev/fuse back over a socket whose number it finds
// in _FUSE_COMMFD: its interface with every FUSE library.
UniqueFd mount_by_helper(const MountRequest& request, const fs::path& directory) {
  const std::optional<fs::path> helper = find_program(kFusermount);
  if (!helper) {
    throw Error(ExitCode::kNoFuse, std::string("cannot mount: ") + kFusermount +
                                       " is not installed; install the package fuse3");
  }
  std::string options = "ro,default_permissions,subtype=pyram,fsname=" + escape(request.source);
  options += request.allow_set_id ? ",suid" : ",nosuid";
  options += request.allow_devices ? ",dev" : ",nodev";
  if (request.allow_other) options += ",allow_other";
  if (request.no_exec) options += ",noexec";
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    throw system_error(ExitCode::kNoFuse, errno, std::string("run ") + kFusermount);
  }
  const UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  auto [error_output, error_input] = make_pipe();

  constexpr int kSocket = 3;
  Program program{.arguments = {kFusermount, "-o", options, "--", directory.native()},
                  .path = helper->native()};
  const char* const path = std::getenv("PATH");
  program.environment = {"_FUSE_COMMFD=" + std::to_string(kSocket),
                         std::string("PATH=") + (path != nullptr ? path : "")};
  program.descriptors = {{theirs.get(), kSocket}, {error_input.get(), STDERR_FILENO}};
  program.closes_others = true;
  program.resets_signals = true;
  Child child = Child::start(program);
  theirs.reset();
  error_input.reset();
  UniqueFd device = receive_descriptor(ours.get());
  std::string said = read_to_end(error_output.get(), kFusermount);
  const int status = child.wait();
  if (device && status == 0) return device;
  while (!said.empty() && said.back() == '\n') said.pop_back();
  if (const std::size_t line = said.rfind('\n'); line != std::string::npos) said.erase(0, line + 1);
  if (said.empty()) said = std::string(kFusermount) + " failed without a word";
  throw Error(ExitCode::kNoFuse, "cannot mount on " + quote(directory.native()) + ": " + said);
}

// Of /proc/self/mountinfo, as it stands there: place and source are escaped.
struct MountLine {
  std::string_view device;
  std::string_view place;
  std::string_view type;
  std::string_view source;
};

// Calls `action` with the line of every mount of our namespace.
template <typename Action>
void for_each_mount(Action&& action) {
  // ID PARENT DEVICE ROOT PLACE OPTIONS [TAG...] - TYPE SOURCE OPTIONS
  constexpr std::size_t kDeviceField = 2;
  constexpr std::size_t kPlaceField = 4;
  const std::string text = read_file(kMountTable);
  for (std::string_view lines = text; !lines.empty();) {
    std::string_view line = take_part(lines, '\n');
    std::array<std::string_view, kPlaceField + 1> fields;
    for (std::string_view& field : fields) field = take_part(line, ' ');
    while (!line.empty() && take_part(line, ' ') != "-") {
    }
    const std::string_view type = take_part(line, ' ');
    action(MountLine{.device = fields[kDeviceField],
                     .place = fields[kPlaceField],
                     .type = type,
                     .source = take_part(line, ' ')});
  }
}

bool has_mount_table() { return ::access(kMountTable, R_OK) == 0; }

// The same where there is no /proc, as far as the kernel tells: type and source are empty. Our own
// mount is asked before anybody serves it, hence no request may reach it. Kept out of what a start
// reads of the program.
[[gnu::cold]] std::optional<MountEntry> ask_for_mount(const fs::path& directory) {
  struct statx status {};
  constexpr int kFlags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  if (::statx(AT_FDCWD, directory.c_str(), kFlags, 0, &status) != 0 ||
      (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0) {
    return std::nullopt;
  }
  return MountEntry{
      .device = std::to_string(status.stx_dev_major) + ':' + std::to_string(status.stx_dev_minor),
      .type = {},
      .source = {}};
}

// Asks the mount itself only where no table says it.
[[gnu::cold]] bool is_fuse(const MountEntry& entry, const fs::path& directory) {
  if (!entry.type.empty()) return entry.type.starts_with("fuse");
  struct statfs status {};
  return ::statfs(directory.c_str(), &status) == 0 ? status.f_type == FUSE_SUPER_MAGIC
                                                   : errno == ENOTCONN;
}

}  // namespace

std::optional<MountEntry> find_mount(const fs::path& directory) {
  if (!has_mount_table()) return ask_for_mount(directory);
  std::optional<MountEntry> found;
  for_each_mount([&](const MountLine& line) {
    if (unescape(line.place) != directory.native()) return;
    found = MountEntry{.device = std::string(line.device),
                       .type = std::string(line.type),
                       .source = unescape(line.source)};
  });
  return found;
}

fs::path resolve_mount_point(const fs::path& directory) {
  std::error_code error;
  fs::path resolved = fs::canonical(directory, error);
  if (!error) return resolved;
  // A dead mount cannot be looked into, but what it lies in can.
  fs::path absolute = fs::absolute(directory, error).lexically_normal();
  if (!absolute.has_filename()) absolute = absolute.parent_path();
  const fs::path parent = fs::canonical(absolute.parent_path(), error);
  return error ? absolute : parent / absolute.filename();
}

MountPoint::MountPoint(fs::path directory, UniqueFd device)
    : directory_(std::move(directory)), device_(std::move(device)) {
  if (const auto entry = find_mount(directory_)) mount_device_ = entry->device;
}

MountPoint MountPoint::mount(const MountRequest& request) {
  const fs::path directory = prepare(request);
  UniqueFd device = open_device();
  // CAP_SYS_ADMIN allows mounting, also in a user namespace: only trying tells.
  const int error_number = mount_directly(request, directory, device.get());
  if (error_number == 0) return {directory, std::move(device)};
  if (error_number != EPERM && error_number != EACCES) {
    throw system_error(ExitCode::kNoFuse, error_number, "mount on " + quote(directory.native()));
  }
  device.reset();
  return {directory, mount_by_helper(request, directory)};
}

[[gnu::cold]] MountPoint MountPoint::adopt(UniqueFd device, const fs::path& name) {
  struct stat status {};
  struct stat fuse {};
  if (::fstat(device.get(), &status) != 0 || !S_ISCHR(status.st_mode) ||
      ::stat(kDevice, &fuse) != 0 || status.st_rdev != fuse.st_rdev) {
    throw bad_mount_point(name, "it is no open /dev/fuse");
  }
  return {name, std::move(device)};
}

bool MountPoint::is_connected() const {
  pollfd connection{device_.get(), 0, 0};
  return ::poll(&connection, 1, 0) <= 0 || (connection.revents & POLLERR) == 0;
}

bool MountPoint::is_mounted() const {
  // Without a connection our file system is gone, and its number may be another one's by now.
  if (!is_connected()) return false;
  const auto entry = find_mount(directory_);
  return entry && entry->device == mount_device_;
}

bool MountPoint::is_mounted_here() const {
  if (!has_mount_table()) return is_mounted();
  bool found = false;
  for_each_mount([&](const MountLine& line) { found = found || line.device == mount_device_; });
  return found && is_connected();
}

UnmountResult MountPoint::unmount() const {
  if (!is_mounted()) return UnmountResult::kNotMounted;
  return unmount_resolved(directory_, 0);
}

UnmountResult MountPoint::expire() const {
  if (!is_mounted()) return UnmountResult::kNotMounted;
  const bool done = ::umount2(directory_.c_str(), UMOUNT_NOFOLLOW | MNT_EXPIRE) == 0;
  return done ? UnmountResult::kDone : UnmountResult::kBusy;
}

void MountPoint::detach() const {
  if (is_mounted()) unmount_resolved(directory_, MNT_DETACH);
}

void unmount_directory(const fs::path& directory) {
  const fs::path resolved = resolve_mount_point(directory);
  const auto entry = find_mount(resolved);
  if (!entry || !is_fuse(*entry, resolved)) {
    throw Error(ExitCode::kBadMountPoint,
                "cannot unmount " + quote(directory.native()) + ": no image is mounted there");
  }
  const bool dead = is_dead_mount(resolved);
  if (!dead) quiesce(resolved);
  const UnmountResult result = unmount_resolved(resolved, dead ? MNT_DETACH : 0);
  if (result == UnmountResult::kBusy) {
    throw Error(ExitCode::kBadMountPoint, "cannot unmount " + quote(directory.native()) +
                                              ": programs use it; end them first (fuser -vm " +
                                              quote(directory.native()) + " shows them)");
  }
  // fusermount3 says of another user's mount that it isn't there.
  const auto left = find_mount(resolved);
  if (result == UnmountResult::kNotMounted && left && left->device == entry->device) {
    throw Error(ExitCode::kBadMountPoint, "cannot unmount " + quote(directory.native()) +
                                              ": only the user who mounted it and root may");
  }
}

}  // namespace pyram
