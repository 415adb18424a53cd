#include "launcher/doctor.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "launcher/collector.h"
#include "launcher/doctor_report.h"
#include "launcher/extraction.h"
#include "launcher/image_place.h"
#include "launcher/mounts.h"
#include "launcher/namespace_mount.h"
#include "launcher/start_daemon.h"
#include "launcher/system.h"
#include "support/child.h"
#include "support/error.h"
#include "support/image_key.h"
#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

constexpr char kFuseDevice[] = "/dev/fuse";
constexpr char kOnlyRoot[] = "only root may mount directly; not needed where fuse works";

struct Finding {
  Verdict verdict = Verdict::kFails;
  std::string text;
};

Finding works(std::string text) { return {Verdict::kWorks, std::move(text)}; }
Finding fails(std::string text) { return {Verdict::kFails, std::move(text)}; }
// What only a trial can tell, without anything to try it with.
Finding open_question(std::string text) { return {Verdict::kUnknown, std::move(text)}; }

bool no_new_privileges() { return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1; }

// What is in the way of FUSE as such, and what would help; empty when nothing is.
std::string device_problem() {
  if (::access(kFuseDevice, R_OK | W_OK) == 0) return {};
  if (errno == ENOENT) {
    return "there is no /dev/fuse: load the kernel's fuse module, or give the container the device "
           "(docker run --device /dev/fuse)";
  }
  return "/dev/fuse: " + describe_errno(errno) +
         "; root can open it to all users with chmod 0666 /dev/fuse";
}

std::string fusermount_problem() {
  const auto helper = find_companion({}, "fusermount3");
  if (!helper) return "fusermount3 is not installed: install the package fuse3";
  struct stat status {};
  if (::stat(helper->c_str(), &status) == 0 &&
      ((status.st_mode & S_ISUID) == 0 || status.st_uid != 0)) {
    return *helper + " is not set-uid root: chown root " + *helper + "; chmod u+s " + *helper;
  }
  if (no_new_privileges()) {
    return "this process may not gain privileges (NoNewPrivileges), so fusermount3 is without "
           "effect: have root mount the image for everybody";
  }
  return {};
}

// A place for trials: beside the image's own, under a name that no other process uses.
class Trial {
 public:
  Trial(const RuntimeDirectory& directory, const ChosenImage& image)
      : image_(renamed(image)), place_(directory, image_) {
    place_.make_mount_point();
    place_.make_namespace_mount_point();
  }
  ~Trial() {
    ::rmdir(place_.path().c_str());
    ::rmdir(place_.namespace_path().c_str());
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  [[nodiscard]] const ChosenImage& image() const { return image_; }
  [[nodiscard]] const ImagePlace& place() const { return place_; }

 private:
  static ChosenImage renamed(ChosenImage image) {
    image.stem = "doctor-" + std::to_string(::getpid());
    return image;
  }

  ChosenImage image_;
  ImagePlace place_;
};

// A mount on trial in a user namespace. Its daemon is no child of this process and can end by
// itself: the descriptor never means another process that was given the same number.
class TrialDaemon {
 public:
  TrialDaemon(const ImagePlace& place, const std::vector<std::string>& command)
      : place_(place),
        daemon_(make_namespace_mount(place, command)),
        process_(static_cast<int>(::syscall(SYS_pidfd_open, daemon_, 0))),
        error_(process_ ? 0 : errno) {}
  ~TrialDaemon() {
    forget_namespace_mount(place_, daemon_);
    if (process_) {
      ::syscall(SYS_pidfd_send_signal, process_.get(), SIGTERM, nullptr, 0);
    } else if (error_ == ENOSYS) {  // Linux before 5.3.
      ::kill(daemon_, SIGTERM);
    }
  }
  TrialDaemon(const TrialDaemon&) = delete;
  TrialDaemon& operator=(const TrialDaemon&) = delete;

 private:
  const ImagePlace& place_;
  pid_t daemon_;
  UniqueFd process_;
  int error_;
};

class Doctor {
 public:
  Doctor(const std::optional<ChosenImage>& image, const Settings& settings, const Executable& self)
      : image_(image), settings_(settings), self_(self) {}

  void examine(Report& report) {
    report.daemon = find_companion(self_, "pyram-mount").value_or("");
    report.runtime = runtime_directory();
    report.memory = describe_collector(settings_.memory);
    if (settings_.backend) report.backend = name_of(*settings_.backend);
    if (image_ && image_->is_directory()) {
      report.unpacked = true;
      try {
        static_cast<void>(provide_root(*image_, settings_, self_));
      } catch (const Error& error) {
        report.image_problem = error.what();
      }
      return;
    }
    for (const Backend backend : kBackends) {
      Finding finding = image_ ? look_at(backend) : look_without_image(backend);
      report.ways.push_back(
          {backend, finding.verdict, settings_.allows(backend), std::move(finding.text)});
    }
  }

 private:
  std::string runtime_directory() {
    try {
      directory_.emplace(RuntimeDirectory::find_or_make());
      return directory_->path();
    } catch (const Error& error) {
      return error.what();
    }
  }

  Finding look_at(Backend backend) {
    try {
      switch (backend) {
        case Backend::kSystem:
          return system();
        case Backend::kUser:
          return user();
        case Backend::kFuse:
          return fuse();
        case Backend::kRoot:
          return root();
        case Backend::kUserns:
          return user_namespace();
        case Backend::kExtract:
          return extraction();
      }
    } catch (const Error& error) {
      return fails(error.what());
    }
    return {};
  }

  Finding look_without_image(Backend backend) {
    constexpr char kNothingToTry[] = "nothing is in the way; to try it takes an image";
    try {
      if (backend == Backend::kSystem || backend == Backend::kUser) {
        return fails("there is no image that could be mounted");
      }
      if (backend == Backend::kExtract) return extraction();
      if (backend == Backend::kRoot && ::geteuid() != 0) return fails(kOnlyRoot);
      if (std::string problem = device_problem(); !problem.empty()) return fails(problem);
      if (backend == Backend::kFuse && ::geteuid() != 0) {
        if (std::string problem = fusermount_problem(); !problem.empty()) return fails(problem);
      }
      return open_question(kNothingToTry);
    } catch (const Error& error) {
      return fails(error.what());
    }
  }

  [[nodiscard]] Finding system() const {
    if (const auto found = system_mount(*image_)) return works("mounted on " + found->path);
    return fails("root has not mounted this image for everybody (" +
                 std::string(kSystemMountRegistry) + "); as root: pyram-mount -o allow_other " +
                 image_->path + " DIRECTORY");
  }

  [[nodiscard]] Finding user() const {
    const ImagePlace place(directory(), *image_);
    const Found found = place.open_mount();
    if (found.root) return works("mounted on " + found.root->path);
    if (found.error == ENOTCONN) {
      return fails("the daemon of " + place.path() + " is dead; the next start replaces it");
    }
    return fails("not mounted yet; a start makes the mount by one of the ways below");
  }

  [[nodiscard]] Finding fuse() const {
    if (std::string problem = device_problem(); !problem.empty()) return fails(problem);
    const std::string helper = ::geteuid() == 0 ? "" : fusermount_problem();
    Finding finding = mount_on_trial();
    if (finding.verdict != Verdict::kWorks && !helper.empty()) finding.text = helper;
    return finding;
  }

  [[nodiscard]] Finding root() const {
    if (::geteuid() != 0) return fails(kOnlyRoot);
    if (std::string problem = device_problem(); !problem.empty()) return fails(problem);
    return mount_on_trial();
  }

  [[nodiscard]] Finding mount_on_trial() const {
    const Trial trial(directory(), *image_);
    static_cast<void>(start_daemon(command(trial.place().path())));
    const bool seen = trial.place().open_mount().root.has_value();
    trial.place().remove_mount();
    if (!seen) return fails("mounted, but the image has no interpreter in it");
    return works("a mount was made and removed on trial");
  }

  [[nodiscard]] Finding user_namespace() const {
    if (std::string problem = device_problem(); !problem.empty()) return fails(problem);
    const Trial trial(directory(), *image_);
    const TrialDaemon daemon(trial.place(), command(trial.place().namespace_path()));
    // In a child, as joining can't be undone. It ends there also when joining throws.
    Child child = Child::fork("start a process", [&] {
      return join_namespace_mount(trial.place()) ? 0 : static_cast<int>(ExitCode::kFailed);
    });
    if (child.wait() != 0) return fails("mounted in a user namespace, but it can't be joined");
    return works("a mount was made and removed on trial");
  }

  [[nodiscard]] Finding extraction() const {
    std::string places;
    for (const ExtractionDirectory& candidate : extraction_directories(directory())) {
      places.append(places.empty() ? "" : ", ").append(candidate.path);
      places.append(candidate.in_ram ? " (RAM, " : " (disk, ");
      places.append(std::to_string(candidate.room >> 20)).append(" MiB free)");
    }
    if (places.empty()) {
      return fails("no directory that programs may run from; mount a tmpfs with exec on /dev/shm");
    }
    return {image_ ? Verdict::kWorks : Verdict::kUnknown, "where it fits: " + places};
  }

  [[nodiscard]] const RuntimeDirectory& directory() const {
    if (!directory_) throw Error(ExitCode::kLauncherFailed, "no run-time directory, see above");
    return *directory_;
  }

  [[nodiscard]] std::vector<std::string> command(const std::string& mount_point) const {
    return mount_command(*image_, settings_, self_, mount_point, false);
  }

  const std::optional<ChosenImage>& image_;
  const Settings& settings_;
  const Executable& self_;
  std::optional<RuntimeDirectory> directory_;
};

bool wants_json(std::span<char* const> arguments) {
  bool json = false;
  for (const std::string_view argument : arguments) {
    if (argument != "--json") {
      throw Error(ExitCode::kUsage,
                  "--pyram-doctor has no use for " + quote(argument) + "; it takes --json");
    }
    json = true;
  }
  return json;
}

}  // namespace

int examine(const std::optional<std::string_view>& wanted, const Settings& settings,
            const Executable& self, std::span<char* const> arguments) {
  const bool json = wants_json(arguments);
  Report report;
  std::optional<ChosenImage> image;
  try {
    image = find_image(wanted, self);
    report.image = image->path;
  } catch (const Error& error) {
    report.image_problem = error.what();
  }
  Doctor(image, settings, self).examine(report);
  judge(report);
  print_line(STDOUT_FILENO, json ? as_json(report) : as_text(report, colours_wanted()));
  return report.works ? 0 : static_cast<int>(ExitCode::kLauncherFailed);
}

}  // namespace pyram::launcher
