#include "launcher/start_daemon.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>

#include "launcher/namespaces.h"
#include "support/child.h"
#include "support/error.h"
#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

// The daemon's end of the readiness pipe.
constexpr int kReadyFd = 3;

struct ReadinessPipe {
  UniqueFd reader;
  UniqueFd writer;
};

// Both ends are above the standard descriptors, which the caller may have closed: a child that puts
// /dev/null there must not lose its end.
//
// A pair of sockets: the kernel then tells which process wrote.
ReadinessPipe make_readiness_pipe() {
  std::array<int, 2> ends{};
  constexpr int kOn = 1;
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno, "make a pipe");
  }
  ::setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &kOn, sizeof kOn);
  ReadinessPipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  for (UniqueFd* end : {&pipe.reader, &pipe.writer}) {
    if (end->get() > kReadyFd) continue;
    end->reset(::fcntl(end->get(), F_DUPFD_CLOEXEC, kReadyFd + 1));
    if (!*end) throw system_error(ExitCode::kLauncherFailed, errno, "make a pipe");
  }
  return pipe;
}

// What the first caller had for itself (nice, a batch queue's scheduling and processors, ulimit) is
// not meant for the daemon, which serves everybody who comes later. What may not be changed stays.
void be_neutral() {
  // First: how far one's priority may be raised is a limit too.
  for (int limit = 0; limit < RLIM_NLIMITS; ++limit) {
    const auto resource = static_cast<__rlimit_resource>(limit);
    rlimit value{};
    if (::getrlimit(resource, &value) != 0 || value.rlim_cur == value.rlim_max) continue;
    value.rlim_cur = value.rlim_max;
    ::setrlimit(resource, &value);
  }
  const sched_param none{};
  ::sched_setscheduler(0, SCHED_OTHER, &none);
  ::setpriority(PRIO_PROCESS, 0, 0);
  constexpr int kThisProcess = 1;  // IOPRIO_WHO_PROCESS; priority 0 is no class of its own.
  ::syscall(SYS_ioprio_set, kThisProcess, 0, 0);
  // The kernel takes those away that a cpuset forbids.
  constexpr std::size_t kMostProcessors = 8192;
  std::array<unsigned char, kMostProcessors / 8> processors;
  processors.fill(0xff);
  ::syscall(SYS_sched_setaffinity, 0, processors.size(), processors.data());
}

// pyram-mount as it has to run: with nothing of the caller's. A daemon that keeps a pipe's end open
// would have its reader wait for ever, and the caller's directory stays removable and unmountable
// (all our paths are absolute). `ready` and `errors` (for stderr) may be -1.
Program program_of(const std::vector<std::string>& arguments, int ready, int errors) {
  Program program{.arguments = arguments,
                  .directory = "/",
                  .descriptors = {{DescriptorCopy::kNull, STDIN_FILENO},
                                  {DescriptorCopy::kNull, STDOUT_FILENO},
                                  {errors, STDERR_FILENO}},
                  .closes_others = true,
                  .resets_signals = true};
  if (ready >= 0) program.descriptors.push_back({ready, kReadyFd});
  return program;
}

// In the child. Returns an errno value when exec failed.
int become(PreparedProgram& program) {
  be_neutral();
  return program.become();
}

// Ends the child with the protocol's own way of saying why it can't be of use.
[[noreturn, gnu::cold]] void give_up(int ready, std::string_view tried, int error) {
  std::string message = "-cannot ";
  message.append(tried).append(": ").append(describe_errno(error));
  [[maybe_unused]] const ssize_t n = ::write(ready, message.data(), message.size());
  ::_exit(static_cast<int>(ExitCode::kNoFuse));
}

// In the child: returns, and leaves behind a process that becomes the daemon. Forked once more, so
// that the script doesn't find a child that it never had.
[[gnu::cold]] void detach_in_namespaces(PreparedProgram& daemon, int ready,
                                        const std::string& path) {
  const NamespaceStep step = enter_new_namespaces();
  if (step.error != 0) give_up(ready, step.tried, step.error);
  const pid_t pid = ::fork();
  if (pid < 0) give_up(ready, "start a process", errno);
  if (pid > 0) return;
  ::setsid();
  const int error = become(daemon);
  give_up(ready, "run " + quote(path), error);
}

// Holds what the daemon writes to stderr before it can speak through the pipe: a complaint about
// its options. Not a second pipe, which would have no reader later.
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
  pid_t writer = 0;  // The process that wrote the last part; 0: unknown.
};

bool serves(const Answer& answer) { return answer.text.starts_with('+'); }

// One part of an answer, and the process that wrote it. What recvmsg returned.
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
    if (serves(answer)) return answer;
  }
}

[[noreturn, gnu::cold]] void throw_refusal(std::string_view answer, std::string_view errors,
                                           int status, const std::string& program) {
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
  ReadinessPipe ready = make_readiness_pipe();
  const UniqueFd errors = make_error_file();
  const Program daemon = program_of(with_options(arguments, ready_options()), ready.writer.get(),
                                    errors ? errors.get() : DescriptorCopy::kNull);
  PreparedProgram prepared(daemon);
  Child child = Child::fork("start " + quote(arguments.front()), [&]() -> int {
    const int error = become(prepared);
    give_up(ready.writer.get(), "run " + quote(arguments.front()), error);
  });
  ready.writer.reset();
  const Answer answer = read_answer(ready.reader.get());
  const int status = child.wait();
  if (!serves(answer)) {
    throw_refusal(answer.text, read_error_file(errors.get()), status, arguments.front());
  }
  return answer.writer;
}

pid_t start_daemon_in_namespaces(const std::vector<std::string>& arguments) {
  ReadinessPipe ready = make_readiness_pipe();
  std::vector<std::string> all = with_options(arguments, ready_options());
  all.insert(all.begin() + 1, "-f");
  const Program daemon = program_of(all, ready.writer.get(), DescriptorCopy::kNull);
  PreparedProgram prepared(daemon);
  Child child = Child::fork("start " + quote(arguments.front()), [&] {
    detach_in_namespaces(prepared, ready.writer.get(), arguments.front());
    return 0;
  });
  ready.writer.reset();
  const Answer answer = read_answer(ready.reader.get());
  const int status = child.wait();
  if (!serves(answer)) throw_refusal(answer.text, {}, status, arguments.front());
  if (answer.writer == 0) {
    throw Error(ExitCode::kLauncherFailed, "cannot find the process of pyram-mount");
  }
  return answer.writer;
}

int run_quietly(const std::vector<std::string>& arguments) {
  const Program program = program_of(arguments, -1, DescriptorCopy::kNull);
  PreparedProgram prepared(program);
  return Child::fork("start " + quote(arguments.front()),
                     [&] {
                       static_cast<void>(become(prepared));
                       return 127;
                     })
      .wait();
}

}  // namespace pyram::launcher
