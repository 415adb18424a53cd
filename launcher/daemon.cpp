#include "launcher/daemon.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "support/error.h"
#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

// The daemon's end of the readiness pipe.
constexpr int kReadyFd = 3;

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
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

// In the child: only async-signal-safe calls. Returns an errno value when exec failed.
int become(const std::vector<char*>& argv, int ready) {
  // Ours may be any number, 0 to 2 among them when the caller had closed these.
  const int kept = ready >= 0 ? ::fcntl(ready, F_DUPFD_CLOEXEC, kReadyFd + 1) : -1;
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0 || ::dup2(null, STDIN_FILENO) < 0 || ::dup2(null, STDOUT_FILENO) < 0 ||
      ::dup2(null, STDERR_FILENO) < 0) {
    return errno;
  }
  if (ready >= 0 && ::dup2(kept, kReadyFd) < 0) return errno;
  ::close_range(ready >= 0 ? kReadyFd + 1 : kReadyFd, ~0U, 0);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  raise_limits();
  ::execve(argv[0], argv.data(), environ);
  return errno;
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    // A caller that ignores SIGCHLD has the kernel collect our child: then how it ended is lost.
    if (errno != EINTR) return 0;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

pid_t spawn(const std::vector<std::string>& arguments, int ready) {
  const std::vector<char*> argv = pointers(arguments);
  const pid_t pid = ::fork();
  if (pid < 0) {
    throw system_error(ExitCode::kLauncherFailed, errno, "start " + quote(arguments[0]));
  }
  if (pid == 0) {
    const int error = become(argv, ready);
    if (ready >= 0) {
      const char* const text = ::strerror(error);  // NOLINT(concurrency-mt-unsafe): one thread.
      std::array<char, 256> message{'-'};
      ::strncpy(message.data() + 1, text, message.size() - 2);
      // kReadyFd is ours unless dup2 failed, and then there is nobody to tell.
      [[maybe_unused]] const ssize_t n =
          ::write(kReadyFd, message.data(), ::strlen(message.data()));
    }
    ::_exit(127);
  }
  return pid;
}

// Everything that the daemon says, up to end of file or to its '+'.
std::string read_answer(int fd) {
  std::string text;
  std::array<char, 1024> buffer;
  for (;;) {
    const ssize_t size = ::read(fd, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(size));
    if (text.front() == '+') return text;
  }
}

std::string first_line(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  return std::string(text);
}

}  // namespace

void start_daemon(const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno, "make a pipe");
  }
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);

  std::vector<std::string> all{arguments.front(), "--ready-fd", std::to_string(kReadyFd)};
  all.insert(all.end(), arguments.begin() + 1, arguments.end());
  const pid_t pid = spawn(all, writer.get());
  writer.reset();
  const std::string answer = read_answer(reader.get());
  const int status = wait_for(pid);
  if (answer.starts_with('+')) return;
  if (answer.size() > 1) {
    throw Error(ExitCode::kLauncherFailed, first_line(std::string_view(answer).substr(1)));
  }
  throw Error(ExitCode::kLauncherFailed, "cannot mount: " + quote(arguments.front()) +
                                             " ended with " + std::to_string(status) +
                                             " and didn't say why; run it by hand with -f");
}

int run_quietly(const std::vector<std::string>& arguments) {
  return wait_for(spawn(arguments, -1));
}

}  // namespace pyram::launcher
