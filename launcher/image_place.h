// What a user's run-time directory holds about one image, all named STEM-KEY:
//   STEM-KEY          the mount point
//   STEM-KEY.pid      a link whose target is the process id of the mount's daemon
//   STEM-KEY.lock     held (flock) by the start that is making a mount
//   STEM-KEY.ns       the mount point of a mount in a user namespace
//   STEM-KEY.ns-N     where the namespace of that mount is (namespace_mount.h)
//   STEM-KEY.ram      the unpacked content, or a link to it (extraction.h)
#pragma once

#include <optional>
#include <string>

#include "launcher/image_search.h"
#include "launcher/runtime_directory.h"
#include "support/unique_fd.h"

namespace pyram::launcher {

// An image's content, held until the object goes: a mount that a descriptor leads to can't be
// unmounted (except lazily). The descriptor is close-on-exec; when exec closes it, the
// interpreter's own mapping has taken its place.
struct Root {
  std::string path;
  UniqueFd hold;
};

// What looking for content can find.
struct Found {
  std::optional<Root> root;
  int error = 0;  // Why there is none. ENOTCONN: a mount whose daemon is dead.
};

// Opens the content under `path`. `seen_from` is prefixed for looking only: the /proc/PID/root of
// a process that sees another tree.
[[nodiscard]] Found open_root(std::string path, const std::string& seen_from = {});

// An image that cannot be started, by whatever way it was reached.
[[noreturn]] void throw_no_interpreter(const ChosenImage& image);

class ImagePlace {
 public:
  ImagePlace(const RuntimeDirectory& directory, const ChosenImage& image);

  [[nodiscard]] const RuntimeDirectory& directory() const { return directory_; }
  // The mount point's name and path.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  // A dead daemon's mount goes on giving what the kernel has cached, with which a start may come
  // far before it fails. So the daemon is looked at as well, by its process: asking it would be a
  // request in every start.
  [[nodiscard]] Found open_mount() const;
  // Whether anything is mounted there.
  [[nodiscard]] bool is_mounted() const;
  // Remembers the daemon of the mount. Without it (0, or a full directory) only its number is
  // unknown.
  void note_daemon(pid_t daemon) const;

  // Waits until no other start is making a mount of this image. Throws Error.
  [[nodiscard]] UniqueFd lock() const;

  // As path(), for a mount in a user namespace.
  [[nodiscard]] std::string namespace_path() const { return path_ + ".ns"; }

  // Throws Error. REQUIRES: the lock.
  void make_mount_point() const { make_directory(path_); }
  void make_namespace_mount_point() const { make_directory(namespace_path()); }

  // REQUIRES: the lock, and that open_mount() said ENOTCONN: no daemon serves the mount, so
  // whatever still uses it gets nothing but errors already. Throws Error.
  void remove_dead_mount() const { unmount(); }

  // For a mount that only the caller knows of. Throws Error.
  void remove_mount() const { unmount(); }

 private:
  [[nodiscard]] bool daemon_seems_dead() const;
  static void make_directory(const std::string& path);
  void unmount() const;

  const RuntimeDirectory& directory_;
  std::string name_;
  std::string path_;
};

}  // namespace pyram::launcher
