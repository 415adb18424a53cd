#include "support/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "support/error.h"
#include "support/exec.h"
#include "support/pipe.h"
#include "support/signal_reset.h"

namespace pyram {
namespace {

using std::chrono::milliseconds;

// The rest of a child's life. No exception gets out: the caller's code isn't the child's.
[[noreturn]] void run_and_exit(int (*call)(const void*), const void* work) noexcept {
  int code = static_cast<int>(ExitCode::kFailed);
  try {
    code = call(work);
  } catch (const Error& error) {
    code = static_cast<int>(error.code());
  } catch (...) {  // NOLINT(bugprone-empty-catch): the exit code says that it failed.
  }
  ::_exit(code);
}

}  // namespace

KeptChildren::KeptChildren() noexcept {
  struct sigaction now {};
  ignored_ = ::sigaction(SIGCHLD, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
  if (ignored_) ::signal(SIGCHLD, SIG_DFL);
}

void KeptChildren::restore() noexcept {
  if (!std::exchange(ignored_, false)) return;
  ::signal(SIGCHLD, SIG_IGN);
  // Children that this process had before it became ours: had we not been there, the kernel would
  // have forgotten those that have ended meanwhile.
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

DescriptorMap::DescriptorMap(std::vector<DescriptorCopy> copies) : copies_(std::move(copies)) {
  for (const DescriptorCopy& copy : copies_) first_free_ = std::max(first_free_, copy.to + 1);
}

void DescriptorMap::move_away(int& fd) const noexcept {
  if (fd < first_free_) fd = ::fcntl(fd, F_DUPFD_CLOEXEC, first_free_);
}

int DescriptorMap::apply(bool closes_others) noexcept {
  // First all sources move out of the way: a copy could replace the source of the next one.
  for (DescriptorCopy& copy : copies_) {
    int from = copy.from;
    if (from == DescriptorCopy::kNull) from = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (from < 0) return errno;
    copy.from = ::fcntl(from, F_DUPFD_CLOEXEC, first_free_);
    if (copy.from < 0) return errno;
  }
  if (closes_others) ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  for (const DescriptorCopy& copy : copies_) {
    if (::dup2(copy.from, copy.to) < 0) return errno;
  }
  return 0;
}

PreparedProgram::PreparedProgram(const Program& program)
    : program_(program),
      argv_(exec_pointers(program.arguments)),
      descriptors_(program.descriptors) {
  if (program.environment) envp_ = exec_pointers(*program.environment);
}

int PreparedProgram::become() noexcept {
  if (const int error = descriptors_.apply(program_.closes_others); error != 0) return error;
  if (program_.resets_signals) reset_signals();
  if (!program_.directory.empty() && ::chdir(program_.directory.c_str()) != 0) return errno;
  const char* const path = program_.path.empty() ? argv_[0] : program_.path.c_str();
  ::execve(path, argv_.data(), program_.environment ? envp_.data() : environ);
  return errno;
}

Child Child::fork_calling(std::string_view tried, Call call, const void* work) {
  KeptChildren kept;
  const pid_t pid = ::fork();
  if (pid < 0) throw system_error(ExitCode::kFailed, errno, tried);
  if (pid == 0) {
    kept.restore();
    run_and_exit(call, work);
  }
  return {pid, std::move(kept)};
}

Child Child::start(const Program& program) {
  const std::string& path = program.path.empty() ? program.arguments.at(0) : program.path;
  PreparedProgram prepared(program);
  Pipe failure = make_pipe();  // The child's errno when exec fails; closed by a successful exec.
  Child child = fork("start " + quote(path), [&] {
    int writer = failure.writer.get();
    prepared.descriptors().move_away(writer);
    const int error = prepared.become();
    [[maybe_unused]] const ssize_t n = ::write(writer, &error, sizeof error);
    return 127;
  });
  failure.writer.reset();
  int error = 0;
  ssize_t size = -1;
  do {
    size = ::read(failure.reader.get(), &error, sizeof error);
  } while (size < 0 && errno == EINTR);
  if (size == sizeof error) {
    throw system_error(ExitCode::kMissingTool, error, "run " + quote(path));
  }
  return child;
}

Child::Child(pid_t pid, KeptChildren kept) noexcept
    : kept_(std::move(kept)),
      process_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))),
      pid_(pid) {}

Child::Child(Child&& other) noexcept
    : kept_(std::move(other.kept_)),
      process_(std::move(other.process_)),
      pid_(std::exchange(other.pid_, -1)),
      status_(other.status_),
      ended_by_(other.ended_by_) {}

Child::~Child() {
  if (pid_ <= 0 || status_) return;
  signal(SIGKILL);
  try {
    wait();
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): then there is nothing to collect.
  }
}

void Child::collect(int options) {
  siginfo_t info{};
  for (;;) {
    int result = -1;
    errno = EINVAL;
    if (process_) {
      result = ::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED | options);
    }
    if (result != 0 && errno == EINVAL) {  // No pidfds (Linux 5.3), or no waits for them (5.4).
      result = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | options);
    }
    if (result == 0) break;
    if (errno != EINTR) throw system_error(ExitCode::kFailed, errno, "wait for a process");
  }
  if (info.si_pid == 0) return;  // WNOHANG, and it still runs.
  if (info.si_code != CLD_EXITED) ended_by_ = info.si_status;
  status_ = ended_by_ == 0 ? info.si_status : 128 + ended_by_;
}

int Child::wait() {
  while (!status_) collect(0);
  return *status_;
}

bool Child::wait_for(milliseconds at_most) {
  using Clock = std::chrono::steady_clock;
  constexpr milliseconds kStep{10};  // Between two looks where there is no pidfd.
  const Clock::time_point deadline = Clock::now() + at_most;
  for (;;) {
    if (!status_) collect(WNOHANG);
    if (status_) return true;
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (left <= milliseconds::zero()) return false;
    pollfd ended{process_.get(), POLLIN, 0};  // poll() passes over negative descriptors.
    ::poll(&ended, 1, static_cast<int>((process_ ? left : std::min(left, kStep)).count()));
  }
}

void Child::signal(int number) const noexcept {
  if (pid_ > 0 && !status_) ::kill(pid_, number);
}

void Child::release() noexcept { pid_ = -1; }

}  // namespace pyram
