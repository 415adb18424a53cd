// Mounting and unmounting: the directory, the kernel and fusermount3, but nothing of FUSE's
// protocol.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "support/unique_fd.h"

namespace pyram {

struct MountRequest {
  std::filesystem::path directory;
  std::string source;  // What `mount` and `df` show: the image's path.
  bool allow_other = false;
  bool nonempty = false;
  bool no_exec = false;
  bool allow_devices = false;
  bool allow_set_id = false;
};

enum class UnmountResult { kDone, kBusy, kNotMounted };

// A FUSE file system that was mounted by us. Not unmounted when this goes: the session ends first.
class MountPoint {
 public:
  // Mounts read-only with default_permissions, and with nosuid,nodev unless asked otherwise;
  // directly where we may, else through fusermount3. A dead daemon's mount on the directory is
  // replaced. Throws Error: kBadMountPoint (missing, no directory, not empty, in use), kNoFuse.
  [[nodiscard]] static MountPoint mount(const MountRequest& request);

  // A file system that somebody else mounted, by this open /dev/fuse. `name` is for people; nothing
  // is unmounted here. Throws Error (kBadMountPoint) where it is no such device.
  [[nodiscard]] static MountPoint adopt(UniqueFd device, const std::filesystem::path& name);

  // The open /dev/fuse of the mount, to serve it by.
  [[nodiscard]] int device() const { return device_.get(); }

  // Absolute, without links.
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }

  // Unmounts when it is not in use. Throws Error when the attempt itself fails.
  UnmountResult unmount() const;

  // Unmounts when no path was looked up in it since the last call, which marked it (kBusy); this is
  // more than not being in use. Always kBusy where we may not do it: fusermount3 can't.
  UnmountResult expire() const;

  // Whether the kernel still has the file system: somewhere it is mounted or in use, which may be
  // in another mount namespace.
  [[nodiscard]] bool is_connected() const;
  // Whether it is mounted on a directory of our own mount namespace: on any (a copy of it, made by
  // `mount --bind`, counts too). Throws Error where /proc can't be read.
  [[nodiscard]] bool is_mounted_here() const;

  // Takes it out of the directory tree. Programs that use it keep it, and are served.
  void detach() const;

 private:
  MountPoint(std::filesystem::path directory, UniqueFd device);
  // Whether what is mounted there is ours still.
  [[nodiscard]] bool is_mounted() const;

  std::filesystem::path directory_;
  UniqueFd device_;
  std::string mount_device_;  // "MAJOR:MINOR"; unique while our connection lives.
};

// One line of /proc/self/mountinfo.
struct MountEntry {
  std::string device;  // "MAJOR:MINOR"
  std::string type;
  std::string source;
};
// What is mounted on a directory (absolute, without links), the last where several are.
[[nodiscard]] std::optional<MountEntry> find_mount(const std::filesystem::path& directory);

// The absolute path of a mount point, links resolved; works where the mount's daemon is dead too.
[[nodiscard]] std::filesystem::path resolve_mount_point(const std::filesystem::path& directory);

// `pyram-mount --unmount`. Throws Error (kBadMountPoint) where it is in use or not a mount of ours.
void unmount_directory(const std::filesystem::path& directory);

}  // namespace pyram
