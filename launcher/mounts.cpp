#include "launcher/mounts.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "launcher/extraction.h"
#include "launcher/namespace_mount.h"
#include "launcher/runtime_directory.h"
#include "launcher/start_daemon.h"
#include "launcher/system.h"
#include "support/error.h"
#include "support/image_key.h"
#include "support/image_layout.h"

namespace pyram::launcher {
namespace {

// An idle time of a second or two may end between a mount's readiness and our first look at it.
constexpr int kAttempts = 5;

// Everything that finds or makes content in this user's run-time directory.
class Backends {
 public:
  Backends(const RuntimeDirectory& directory, const ChosenImage& image, const Settings& settings,
           const Executable& self)
      : image_(image), settings_(settings), self_(self), place_(directory, image) {}

  [[nodiscard]] std::optional<Root> find() {
    if (allows(Backend::kUser) || allows(Backend::kFuse) || allows(Backend::kRoot)) {
      Found found = place_.open_mount();
      if (found.root) return std::move(found.root);
      dead_ = found.error == ENOTCONN;
    }
    if (allows(Backend::kUserns)) {
      if (auto root = join_namespace_mount(place_)) return root;
    }
    if (allows(Backend::kExtract)) {
      if (auto root = find_extracted(place_)) return root;
    }
    return std::nullopt;
  }

  [[nodiscard]] Root make() {
    const UniqueFd lock = place_.lock();
    // While we waited for the lock another start may have been at it.
    if (auto root = find()) return *std::move(root);
    if (dead_) place_.remove_dead_mount();
    check_readable();

    std::optional<Root> root;
    if (allows(Backend::kFuse) || allows(Backend::kRoot)) {
      try_way("mount", root, [&] { return fuse_mount(); });
    }
    if (!root && allows(Backend::kUserns)) {
      try_way("mount in a user namespace", root, [&] { return namespace_mount(); });
    }
    if (!root && allows(Backend::kExtract)) {
      const std::string reason = reasons_.empty() ? "PYRAM_BACKEND=extract" : reasons_;
      try_way("unpack into RAM", root, [&] { return extract(place_, image_, self_, reason); });
    }
    if (root) return *std::move(root);
    throw Error(ExitCode::kLauncherFailed, "no way to get at the image " + quote(image_.path) +
                                               " works: " + reasons_ +
                                               "; pyram --pyram-doctor explains");
  }

 private:
  [[nodiscard]] bool allows(Backend backend) const { return settings_.allows(backend); }

  void check_readable() const {
    const UniqueFd fd(::open(image_.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
      throw system_error(ExitCode::kLauncherFailed, errno, "read the image " + quote(image_.path));
    }
  }

  template <typename Way>
  void try_way(const char* name, std::optional<Root>& root, Way way) {
    try {
      root = way();
    } catch (const Error& error) {
      // No other way makes a bad image good or an option's value sensible.
      const bool hopeless = error.code() == ExitCode::kBadImage ||
                            error.code() == ExitCode::kUsage ||
                            error.code() == ExitCode::kVerification;
      if (hopeless || settings_.backend) throw;
      reasons_.append(reasons_.empty() ? "" : "; ").append(name).append(": ").append(error.what());
    }
  }

  [[nodiscard]] std::vector<std::string> command(const std::string& mount_point) const {
    return mount_command(image_, settings_, self_, mount_point, place_.directory().shared());
  }

  [[nodiscard]] Root fuse_mount() const {
    if (settings_.backend == Backend::kRoot && ::geteuid() != 0) {
      throw Error(ExitCode::kUsage,
                  "cannot mount directly (PYRAM_BACKEND=root): only root may; unset it");
    }
    place_.make_mount_point();
    int error = 0;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      place_.note_daemon(start_daemon(command(place_.path())));
      Found found = place_.open_mount();
      if (found.root) return *std::move(found.root);
      error = found.error;
      if (error == ENOENT && place_.is_mounted()) {
        place_.remove_mount();
        throw_no_interpreter(image_);
      }
    }
    throw system_error(ExitCode::kLauncherFailed, error, "use the mount " + quote(place_.path()));
  }

  [[nodiscard]] Root namespace_mount() const {
    place_.make_namespace_mount_point();
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      make_namespace_mount(place_, command(place_.namespace_path()));
      if (auto root = join_namespace_mount(place_)) return *std::move(root);
    }
    throw_no_interpreter(image_);
  }

  const ChosenImage& image_;
  const Settings& settings_;
  const Executable& self_;
  ImagePlace place_;
  bool dead_ = false;    // find() saw a mount without its daemon.
  std::string reasons_;  // Of the ways that failed.
};

}  // namespace

// The registry is trusted only if only root can have written it.
std::optional<Root> system_mount(const ChosenImage& image) {
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

std::vector<std::string> mount_command(const ChosenImage& image, const Settings& settings,
                                       const Executable& self, const std::string& mount_point,
                                       bool shared) {
  std::vector<std::string> command = daemon_command(self);
  command.insert(command.end(), {"--idle-timeout", settings.idle_timeout});
  if (image.offset != 0) {
    command.insert(command.end(), {"-o", "offset=" + std::to_string(image.offset)});
  }
  if (settings.cache_size) {
    command.insert(command.end(), {"--cache-size", *settings.cache_size});
  }
  // A service that starts as root and then becomes another user reads on as that user. An image
  // that others may not read stays closed to them.
  if (shared && (image.status.st_mode & S_IROTH) != 0) {
    command.insert(command.end(), {"-o", "allow_other"});
  }
  command.insert(command.end(), {"--", image.path, mount_point});
  return command;
}

Root provide_root(const ChosenImage& image, const Settings& settings, const Executable& self) {
  if (image.is_directory()) {
    Found found = open_root(image.path);
    if (found.root) return *std::move(found.root);
    if (found.error == ENOENT) throw_no_interpreter(image);
    throw system_error(ExitCode::kLauncherFailed, found.error, "use " + quote(image.path));
  }
  if (settings.allows(Backend::kSystem)) {
    if (auto root = system_mount(image)) return *std::move(root);
  }
  if (settings.backend != Backend::kSystem) {
    if (const auto directory = RuntimeDirectory::find()) {
      if (auto root = Backends(*directory, image, settings, self).find()) return *std::move(root);
    }
  }
  if (settings.backend == Backend::kSystem || settings.backend == Backend::kUser) {
    throw Error(ExitCode::kLauncherFailed,
                "there is no " + std::string(name_of(*settings.backend)) + " mount of " +
                    quote(image.path) + ", and PYRAM_BACKEND allows nothing else; unset it");
  }
  const RuntimeDirectory directory = RuntimeDirectory::find_or_make();
  return Backends(directory, image, settings, self).make();
}

}  // namespace pyram::launcher
