#include "image-builder/scratch_job.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "support/child.h"
#include "support/end_process.h"
#include "support/error.h"
#include "support/signal_reset.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// How long processes may take to end after SIGTERM: pyram-mount has to unmount.
constexpr std::chrono::seconds kPatience{5};

class ScratchOwner {
 public:
  ScratchOwner(const fs::path& parent, const fs::path& output) {
    std::string directory = (parent / ".pyram-build-XXXXXX").native();
    if (::mkdtemp(directory.data()) == nullptr) {
      throw system_error(ExitCode::kCannotWrite, errno,
                         "make a directory for the build in " + quote(parent.native()),
                         "name another one with --work-dir");
    }
    scratch_.directory = directory;
    scratch_.partial = output.parent_path() / ("." + output.filename().native() +
                                               directory.substr(directory.rfind('-')) + ".partial");
  }
  ~ScratchOwner() {
    remove_tree(scratch_.directory);
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
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) {
      if (!is_ignored(signal)) ::sigaddset(&waited_for_, signal);
    }
    ::sigprocmask(SIG_BLOCK, &waited_for_, &before_);
  }
  ~BlockedSignals() { restore(); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  void restore() const { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  [[nodiscard]] int wait() const {
    for (;;) {
      if (const int signal = ::sigwaitinfo(&waited_for_, nullptr); signal > 0) return signal;
    }
  }
  // Returns whether a signal came in time.
  [[nodiscard]] bool wait_for(std::chrono::seconds at_most) const {
    const timespec time{at_most.count(), 0};
    for (;;) {
      if (::sigtimedwait(&waited_for_, nullptr, &time) > 0) return true;
      if (errno != EINTR) return false;
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

// Collects the children that have ended, but never the worker: until it is collected, its number is
// its own, and that of its group as well. Returns whether the worker has ended.
bool collect_orphans(const Child& worker) {
  for (;;) {
    siginfo_t ended{};
    if (::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0) {
      throw system_error(ExitCode::kFailed, errno, "wait for the build");
    }
    if (ended.si_pid == 0) return false;
    if (ended.si_pid == worker.pid()) return true;
    ::waitpid(ended.si_pid, nullptr, 0);
  }
}

// Ends the worker and what is left of its process group, kindly first. Returns its exit code.
int end_group(Child& worker, const BlockedSignals& signals) {
  const pid_t group = worker.pid();
  ::kill(-group, SIGTERM);
  if (!worker.wait_for(kPatience)) ::kill(-group, SIGKILL);
  const int status = worker.wait();
  // Then those of the group that have become our children. Where the group has none left, its
  // number may be another's already: no signal is sent then. Children that left the group (daemons)
  // are not waited for.
  for (;;) {
    const pid_t ended = ::waitpid(-group, nullptr, WNOHANG);
    if (ended < 0) return status;
    if (ended == 0 && !signals.wait_for(kPatience)) {
      ::kill(-group, SIGKILL);
      while (::waitpid(-group, nullptr, 0) > 0) {
      }
      return status;
    }
  }
}

}  // namespace

void remove_tree(const fs::path& directory) noexcept {
  std::error_code ignored;
  fs::remove_all(directory, ignored);
  if (!ignored) return;
  // A directory without write permission, as packages may bring, holds on to what is in it.
  for (fs::recursive_directory_iterator entry(directory, ignored), end; !ignored && entry != end;
       entry.increment(ignored)) {
    if (entry->is_directory(ignored) && !entry->is_symlink(ignored)) {
      fs::permissions(entry->path(), fs::perms::owner_all, ignored);
    }
  }
  fs::remove_all(directory, ignored);
}

int run_scratch_job(const fs::path& parent, const fs::path& output,
                    const std::function<int(const Scratch&)>& work) {
  const BlockedSignals signals;
  const ScratchOwner owner(parent, output);
  // Grandchildren whose parents die become our children, so that they can be waited for.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  std::fflush(stdout);
  std::fflush(stderr);
  const pid_t self = ::getpid();
  Child worker = Child::fork("start a process", [&]() -> int {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != self) ::_exit(static_cast<int>(ExitCode::kFailed));
    signals.restore();
    run_work(work, owner.scratch());
  });
  ::setpgid(worker.pid(), worker.pid());

  for (;;) {
    const int signal = signals.wait();
    if (signal == SIGCHLD) {
      if (collect_orphans(worker)) return end_group(worker, signals);
      continue;
    }
    end_group(worker, signals);
    std::fprintf(stderr, "pyram-image: stopped by %s; nothing was written\n", ::strsignal(signal));
    return 128 + signal;
  }
}

}  // namespace pyram::builder
