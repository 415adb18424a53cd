#include "launcher/daemon.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <span>
#include <string_view>

#include "launcher/namespaces.h"
#include "support/error.h"
#include "support/exec.h"
#include "support/signal_reset.h"
#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

// The daemon's end of the readiness pipe.
constexpr int kReadyFd = 3;

struct Pipe {
  UniqueFd reader;
  UniqueFd writer;
};

// Both ends are above the standard descriptors, which the caller may have closed: a child that puts
// /dev/null there must not lose its end.
//
// A pair of sockets, as the kernel then tells who wrote.
Pipe make_pipe() {
  std::array<int, 2> ends{};
  constexpr int kOn = 1;
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno, "make a pipe");
  }
  ::setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &kOn, sizeof kOn);
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  for (UniqueFd* end : {&pipe.reader, &pipe.writer}) {
    if (end->get() > kReadyFd) continue;
    end->reset(::fcntl(end->get(), F_DUPFD_CLOEXEC, kReadyFd + 1));
    if (!*end) throw system_error(ExitCode::kLauncherFailed, errno, "make a pipe");
  }
  return pipe;
}

void raise_limits() {
  constexpr std::array kLimits{RLIMIT_AS,     RLIMIT_CPU,  RLIMIT_DATA,  RLIMIT_FSIZE,
                               RLIMIT_NOFILE, RLIMIT_CORE, RLIMIT_STACK, RLIMIT_MEMLOCK};
  for (const auto limit : kLimits) {
    rlimit value{};
    if (::getrlimit(limit, &value) != 0) continue;
    value.rlim_cur = value.rlim_max;
    ::setrlimit(limit, &value);
  }
}

// In the child. Returns an errno value when exec failed. `ready` and `errors` (for stderr) are -1
// or above kReadyFd.
int become(const std::vector<char*>& argv, int ready, int errors) {
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0 || ::dup2(null, STDIN_FILENO) < 0 || ::dup2(null, STDOUT_FILENO) < 0 ||
      ::dup2(errors >= 0 ? errors : null, STDERR_FILENO) < 0) {
    return errno;
  }
  if (ready >= 0 && ::dup2(ready, kReadyFd) < 0) return errno;
  // Whatever the caller has open stays the caller's: a daemon that keeps a pipe's end open would
  // have its reader wait for ever.
  const unsigned first = ready >= 0 ? kReadyFd + 1 : kReadyFd;
  ::close_range(first, ~0U, CLOSE_RANGE_CLOEXEC);
  reset_signals();
  raise_limits();
  // The caller's folder stays removable and unmountable. All our paths are absolute.
  if (::chdir("/") != 0) return errno;
  ::execve(argv[0], argv.data(), environ);
  return errno;
}

// Ends the child with the protocol's own way of saying why it can't be of use.
[[noreturn]] void give_up(int ready, std::string_view tried, int error) {
  std::string message = "-cannot ";
  message.append(tried).append(": ").append(describe_errno(error));
  [[maybe_unused]] const ssize_t n = ::write(ready, message.data(), message.size());
  ::_exit(static_cast<int>(ExitCode::kNoFuse));
}

// While we have a child: where the caller ignores SIGCHLD the kernel forgets how one ends. What the
// caller set is the script's to find again.
class WithChildren {
 public:
  WithChildren() {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(SIGCHLD, &action, &before_);
  }
  ~WithChildren() { ::sigaction(SIGCHLD, &before_, nullptr); }
  WithChildren(const WithChildren&) = delete;
  WithChildren& operator=(const WithChildren&) = delete;

 private:
  struct sigaction before_ {};
};

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return static_cast<int>(ExitCode::kFailed);  // Nobody knows how it ended.
  }
  return exit_code_of(status);
}

pid_t fork_or_throw(const std::string& program) {
  const pid_t pid = ::fork();
  if (pid < 0) throw system_error(ExitCode::kLauncherFailed, errno, "start " + quote(program));
  return pid;
}

// Holds what the daemon writes to stderr before it can speak through the pipe: a complaint about
// its options. Not a second pipe, which nobody would read later.
UniqueFd make_error_file() {
  const UniqueFd low(::memfd_create("pyram-mount errors", MFD_CLOEXEC));
  return UniqueFd(low ? ::fcntl(low.get(), F_DUPFD_CLOEXEC, kReadyFd + 1) : -1);
}

std::string read_error_file(int fd) {
  std::array<char, 1024> buffer;
  const ssize_t size = ::pread(fd, buffer.data(), buffer.size(), 0);
  return size <= 0 ? std::string() : std::string(buffer.data(), static_cast<std::size_t>(size));
}

struct Answer {
  std::string text;
  pid_t writer = 0;  // Who wrote the last part; 0: unknown.
};

// One part of an answer, and who wrote it. What recvmsg returned.
ssize_t receive(int fd, std::span<char> buffer, pid_t& writer) {
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  if (size <= 0) return size;
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET &&
      header->cmsg_type == SCM_CREDENTIALS) {
    ucred credentials{};
    ::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
    writer = credentials.pid;
  }
  return size;
}

// Everything that the daemon says, up to end of file or to its '+'.
Answer read_answer(int fd) {
  Answer answer;
  std::array<char, 1024> buffer;
  for (;;) {
    const ssize_t size = receive(fd, buffer, answer.writer);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return answer;
    answer.text.append(buffer.data(), static_cast<std::size_t>(size));
    if (answer.text.front() == '+') return answer;
  }
}

void check_answer(std::string_view answer, std::string_view errors, int status,
                  const std::string& program) {
  if (answer.starts_with('+')) return;
  std::string_view text = answer.size() > 1 ? answer.substr(1) : errors;
  text = text.substr(0, text.find('\n'));
  constexpr std::string_view kName = "pyram-mount: ";
  if (text.starts_with(kName)) text.remove_prefix(kName.size());
  const auto code = status != 0 ? static_cast<ExitCode>(status) : ExitCode::kFailed;
  if (!text.empty()) throw Error(code, std::string(text));
  throw Error(code, "cannot mount: " + quote(program) + " ended with " + std::to_string(status) +
                        " and didn't say why; run it by hand with -f");
}

std::vector<std::string> with_options(const std::vector<std::string>& arguments,
                                      std::span<const std::string> options) {
  std::vector<std::string> all{arguments.front()};
  all.insert(all.end(), options.begin(), options.end());
  all.insert(all.end(), arguments.begin() + 1, arguments.end());
  return all;
}

const std::array<std::string, 2>& ready_options() {
  static const std::array<std::string, 2> options{"--ready-fd", std::to_string(kReadyFd)};
  return options;
}

}  // namespace

pid_t start_daemon(const std::vector<std::string>& arguments) {
  Pipe ready = make_pipe();
  const UniqueFd errors = make_error_file();
  const std::vector<std::string> all = with_options(arguments, ready_options());
  const std::vector<char*> argv = exec_pointers(all);
  const WithChildren with_children;
  const pid_t pid = fork_or_throw(arguments.front());
  if (pid == 0) {
    const int error = become(argv, ready.writer.get(), errors.get());
    give_up(ready.writer.get(), "run " + quote(all.front()), error);
  }
  ready.writer.reset();
  const Answer answer = read_answer(ready.reader.get());
  const int status = wait_for(pid);
  check_answer(answer.text, read_error_file(errors.get()), status, all.front());
  return answer.writer;
}

pid_t start_daemon_in_namespaces(const std::vector<std::string>& arguments) {
  Pipe ready = make_pipe();
  std::vector<std::string> all = with_options(arguments, ready_options());
  all.insert(all.begin() + 1, "-f");
  const std::vector<char*> argv = exec_pointers(all);
  const WithChildren with_children;
  const pid_t pid = fork_or_throw(arguments.front());
  if (pid == 0) {
    const NamespaceStep step = enter_new_namespaces();
    if (step.error != 0) give_up(ready.writer.get(), step.tried, step.error);
    // Forked once more, so that the script doesn't find a child that it never had.
    const pid_t daemon = ::fork();
    if (daemon < 0) give_up(ready.writer.get(), "start a process", errno);
    if (daemon > 0) ::_exit(0);
    ::setsid();
    const int error = become(argv, ready.writer.get(), -1);
    give_up(ready.writer.get(), "run " + quote(all.front()), error);
  }
  ready.writer.reset();
  const Answer answer = read_answer(ready.reader.get());
  check_answer(answer.text, {}, wait_for(pid), all.front());
  if (answer.writer == 0) {
    throw Error(ExitCode::kLauncherFailed, "cannot find the process of pyram-mount");
  }
  return answer.writer;
}

int run_quietly(const std::vector<std::string>& arguments) {
  const std::vector<char*> argv = exec_pointers(arguments);
  const WithChildren with_children;
  const pid_t pid = fork_or_throw(arguments.front());
  if (pid == 0) {
    [[maybe_unused]] const int error = become(argv, -1, -1);
    ::_exit(127);
  }
  return wait_for(pid);
}

}  // namespace pyram::launcher
