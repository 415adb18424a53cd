#include "fusefs/supervise/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "support/error.h"
#include "support/exec.h"
#include "support/pipe.h"

namespace pyram {
namespace {

// Where a worker finds its handles, in the order of WorkerHandles.
constexpr int kFirstHandle = STDERR_FILENO + 1;
constexpr int kHandles = 5;

UniqueFd copy_of(int descriptor) {
  UniqueFd copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, kFirstHandle));
  if (!copy) throw system_error(ExitCode::kFailed, errno, "copy a descriptor");
  return copy;
}

// In a new process: nothing is open but the standard descriptors and the handles. False when that
// can't be.
bool keep_handles(const std::array<int, kHandles>& handles) {
  constexpr int kBehind = kFirstHandle + kHandles;
  std::array<int, kHandles> copies{};
  // First out of the way: a handle may have the number that another is to get.
  for (std::size_t i = 0; i < handles.size(); ++i) {
    copies[i] = ::fcntl(handles[i], F_DUPFD, kBehind);
    if (copies[i] < 0) return false;
  }
  for (std::size_t i = 0; i < copies.size(); ++i) {
    if (::dup2(copies[i], kFirstHandle + static_cast<int>(i)) < 0) return false;
  }
  return ::close_range(kBehind, ~0U, 0) == 0;
}

// In a new process: it ends with its supervisor, without which the mount would have no end.
void end_with_parent(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
}

// In a new process: stderr stays where it is in the foreground, for what libraries say when they
// end a program.
void leave_standard_descriptors(bool foreground) {
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0) return;
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  if (!foreground) ::dup2(null, STDERR_FILENO);
  if (null > STDERR_FILENO) ::close(null);
}

// As waitid() said it.
std::string describe_end(const siginfo_t& info) {
  if (info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
    const int signal = info.si_status;
    const char* const name = ::sigdescr_np(signal);
    return "was ended by signal " + std::to_string(signal) +
           (name != nullptr ? " (" + std::string(name) + ")" : "");
  }
  if (info.si_code == CLD_EXITED) return "ended with code " + std::to_string(info.si_status);
  return "ended, and the kernel does not know how";
}

// Reaps a child if it ended; false where it did not. Its number is only looked at where there is no
// descriptor of it, or the kernel (before Linux 5.4) doesn't wait for one. Nothing is known of its
// end (si_code 0) where somebody else reaped it.
bool reap_child(int process, pid_t pid, siginfo_t& info) {
  constexpr auto kByDescriptor = static_cast<idtype_t>(3);  // P_PIDFD: newer than some C libraries.
  int result = -1;
  do {
    info = {};
    if (process >= 0) {
      result = ::waitid(kByDescriptor, static_cast<id_t>(process), &info, WEXITED | WNOHANG);
    }
    if (process < 0 || (result < 0 && errno == EINVAL)) {
      result = ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
    }
  } while (result < 0 && errno == EINTR);
  return result < 0 || info.si_pid != 0;
}

void kill_child(int process, pid_t pid) {
  if (process >= 0) {
    ::syscall(SYS_pidfd_send_signal, process, SIGKILL, nullptr, 0);
  } else {
    ::kill(pid, SIGKILL);
  }
}

}  // namespace

WorkerHandles inherited_handles() {
  for (int i = 0; i < kHandles; ++i) ::fcntl(kFirstHandle + i, F_SETFD, FD_CLOEXEC);
  return {.control = UniqueFd(kFirstHandle),
          .device = UniqueFd(kFirstHandle + 1),
          .image = UniqueFd(kFirstHandle + 2),
          .state = UniqueFd(kFirstHandle + 3),
          .alive = UniqueFd(kFirstHandle + 4)};
}

std::unique_ptr<WorkerProcess> WorkerProcess::fork(const Options& options,
                                                   const WorkerFiles& files) {
  auto ends = Control::make_pair();
  Pipe alive = make_pipe();
  std::unique_ptr<WorkerProcess> worker(
      new WorkerProcess(std::move(ends.first), std::move(alive.reader)));
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw system_error(ExitCode::kFailed, errno, "start a worker");
  if (child == 0) {
    end_with_parent(parent);
    leave_standard_descriptors(options.foreground);
    if (!keep_handles(
            {ends.second.descriptor(), files.device, files.image, files.state, alive.writer.get()}))
      ::_exit(1);
    ::_exit(run_worker(options, inherited_handles(), WorkerKind::kProcess));
  }
  worker->own(child);
  return worker;
}

std::unique_ptr<WorkerProcess> WorkerProcess::exec(const std::string& program,
                                                   const std::vector<std::string>& arguments,
                                                   const WorkerFiles& files) {
  auto ends = Control::make_pair();
  Pipe alive = make_pipe();
  std::vector<std::string> words = arguments;
  if (words.empty()) throw Error(ExitCode::kFailed, "cannot see how this program was called");
  words.insert(words.begin() + 1, {"--worker", kWorkerProtocol});
  const std::vector<char*> pointers = exec_pointers(words);
  std::unique_ptr<WorkerProcess> worker(
      new WorkerProcess(std::move(ends.first), std::move(alive.reader)));
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw system_error(ExitCode::kFailed, errno, "start a worker");
  if (child == 0) {
    end_with_parent(parent);
    if (!keep_handles(
            {ends.second.descriptor(), files.device, files.image, files.state, alive.writer.get()}))
      ::_exit(1);
    ::execv(program.c_str(), pointers.data());
    ::_exit(127);
  }
  worker->own(child);
  return worker;
}

std::unique_ptr<WorkerProcess> WorkerProcess::start_thread(const Options& options,
                                                           const WorkerFiles& files) {
  auto ends = Control::make_pair();
  WorkerHandles handles{.control = copy_of(ends.second.descriptor()),
                        .device = copy_of(files.device),
                        .image = copy_of(files.image),
                        .state = copy_of(files.state),
                        .alive = UniqueFd()};
  std::unique_ptr<WorkerProcess> worker(new WorkerProcess(std::move(ends.first), UniqueFd()));
  worker->thread_ =
      std::thread([raw = worker.get(), &options, handles = std::move(handles)]() mutable {
        raw->thread_code_ = run_worker(options, std::move(handles), WorkerKind::kThread);
      });
  return worker;
}

WorkerProcess::WorkerProcess(Control control, UniqueFd alive)
    : control_(std::move(control)), alive_(std::move(alive)) {}

void WorkerProcess::own(pid_t child) noexcept {
  pid_ = child;
  process_.reset(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
}

WorkerProcess::~WorkerProcess() {
  kill();
  // A thread that waits for the kernel ends with the process.
  if (thread_.joinable()) thread_.detach();
}

void WorkerProcess::expect_end() const {
  if (pid_ <= 0) return;
  pollfd waiting{alive_.get(), POLLIN, 0};
  constexpr int kMilliseconds = 1000;
  while (::poll(&waiting, 1, kMilliseconds) < 0 && errno == EINTR) {
  }
}

WorkerProcess::End WorkerProcess::wait() {
  if (thread_.joinable()) {
    thread_.join();
    return {.clean = thread_code_ == 0, .how = "ended with code " + std::to_string(thread_code_)};
  }
  if (!kill()) return {.clean = false, .how = "ended while the kernel held it"};
  return {.clean = end_.si_code == CLD_EXITED && end_.si_status == 0, .how = describe_end(end_)};
}

bool WorkerProcess::kill() noexcept {
  if (pid_ <= 0) return true;
  // One that closed its end and lives is out of its mind.
  kill_child(process_.get(), pid_);
  pollfd gone{process_.get(), POLLIN, 0};
  constexpr int kMilliseconds = 50;
  ::poll(&gone, 1, kMilliseconds);
  return reap();
}

bool WorkerProcess::reap() noexcept {
  if (pid_ <= 0) return true;
  if (!reap_child(process_.get(), pid_, end_)) return false;
  pid_ = -1;
  return true;
}

}  // namespace pyram
