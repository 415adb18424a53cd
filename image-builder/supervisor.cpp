#include "image-builder/supervisor.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>

#include "support/end_process.h"
#include "support/error.h"
#include "support/exec.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// How long processes may take to end after SIGTERM: pyram-mount has to unmount.
constexpr timespec kPatience{5, 0};

class ScratchOwner {
 public:
  ScratchOwner(const fs::path& parent, const fs::path& output) {
    std::string folder = (parent / ".pyram-build-XXXXXX").native();
    if (::mkdtemp(folder.data()) == nullptr) {
      throw system_error(ExitCode::kCannotWrite, errno,
                         "make a folder for the build in " + quote(parent.native()),
                         "name another one with --work-dir");
    }
    scratch_.folder = folder;
    scratch_.partial = output.parent_path() / ("." + output.filename().native() +
                                               folder.substr(folder.rfind('-')) + ".partial");
  }
  ~ScratchOwner() {
    remove_tree(scratch_.folder);
    ::unlink(scratch_.partial.c_str());
  }
  ScratchOwner(const ScratchOwner&) = delete;
  ScratchOwner& operator=(const ScratchOwner&) = delete;
  [[nodiscard]] const Scratch& scratch() const { return scratch_; }

 private:
  Scratch scratch_;
};

// Blocks the signals that end a program, so that they can be waited for; puts the mask back.
class BlockedSignals {
 public:
  BlockedSignals() {
    ::sigemptyset(&waited_for_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::sigaddset(&waited_for_, signal);
    ::sigprocmask(SIG_BLOCK, &waited_for_, &before_);
  }
  ~BlockedSignals() { restore(); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  void restore() const { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  // The next signal, or nothing when none came in time.
  [[nodiscard]] std::optional<int> wait(const timespec* at_most = nullptr) const {
    for (;;) {
      const int signal = ::sigtimedwait(&waited_for_, nullptr, at_most);
      if (signal > 0) return signal;
      if (errno != EINTR) return std::nullopt;
    }
  }

 private:
  sigset_t waited_for_{};
  sigset_t before_{};
};

[[noreturn]] void run_work(const std::function<int(const Scratch&)>& work, const Scratch& scratch) {
  int code = static_cast<int>(ExitCode::kFailed);
  try {
    code = work(scratch);
  } catch (const Error& error) {
    std::fprintf(stderr, "pyram-image: %s\n", error.what());
    code = static_cast<int>(error.code());
  } catch (const fs::filesystem_error& error) {
    const bool full = error.code().value() == ENOSPC || error.code().value() == EROFS ||
                      error.code().value() == EDQUOT || error.code().value() == EACCES;
    std::fprintf(stderr, "pyram-image: cannot go on: %s\n", error.what());
    code = static_cast<int>(full ? ExitCode::kCannotWrite : ExitCode::kFailed);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pyram-image: cannot go on: %s\n", error.what());
  }
  std::fflush(stdout);
  std::fflush(stderr);
  end_process(code);
}

// Takes every child that has ended. Returns whether there are others, and the worker's status.
bool reap(pid_t worker, std::optional<int>& status) {
  for (;;) {
    int ended = 0;
    const pid_t pid = ::waitpid(-1, &ended, WNOHANG);
    if (pid < 0) return false;
    if (pid == 0) return true;
    if (pid == worker) status = ended;
  }
}

// Ends what is left of the worker's process group, kindly first.
void end_group(pid_t worker, const BlockedSignals& signals) {
  std::optional<int> ignored;
  ::kill(-worker, SIGTERM);
  while (reap(worker, ignored)) {
    if (!signals.wait(&kPatience)) {
      ::kill(-worker, SIGKILL);
      break;
    }
  }
  // Children that left the group (daemons) are not waited for.
  while (::waitpid(-worker, nullptr, 0) > 0) {
  }
}

}  // namespace

void remove_tree(const fs::path& folder) noexcept {
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  if (!ignored) return;
  // A folder without write permission, as packages may bring, holds on to what is in it.
  for (fs::recursive_directory_iterator entry(folder, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (entry->is_directory(ignored) && !entry->is_symlink(ignored)) {
      fs::permissions(entry->path(), fs::perms::owner_all, ignored);
    }
  }
  fs::remove_all(folder, ignored);
}

int supervise(const fs::path& parent, const fs::path& output,
              const std::function<int(const Scratch&)>& work) {
  const BlockedSignals signals;
  const ScratchOwner owner(parent, output);
  // Grandchildren whose parents die become our children, so that they can be waited for.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::fflush(stdout);
  std::fflush(stderr);
  const pid_t supervisor = ::getpid();
  const pid_t worker = ::fork();
  if (worker < 0) throw system_error(ExitCode::kFailed, errno, "start a process");
  if (worker == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != supervisor) ::_exit(static_cast<int>(ExitCode::kFailed));
    signals.restore();
    run_work(work, owner.scratch());
  }
  ::setpgid(worker, worker);

  std::optional<int> status;
  for (;;) {
    const std::optional<int> signal = signals.wait();
    if (signal == SIGCHLD) {
      reap(worker, status);
      if (!status) continue;
      end_group(worker, signals);
      return exit_code_of(*status);
    }
    if (signal) {
      end_group(worker, signals);
      std::fprintf(stderr, "pyram-image: stopped by %s; nothing was written\n",
                   ::strsignal(*signal));
      return 128 + *signal;
    }
  }
}

}  // namespace pyram::builder
