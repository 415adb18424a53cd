#include "fusefs/supervise/readiness.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "support/io.h"

namespace pyram {
namespace {

// The process that waited may be gone; the mount serves nevertheless.
void tell(int descriptor, const std::string& text) {
  try {
    write_full(descriptor, text, "the readiness pipe");
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): said above
  }
}

// squashfuse's words.
constexpr char kMounted = 's';
constexpr char kFailed = 'f';

// In a child: writes `word` once somebody opens the pipe for reading. Of the daemon's it keeps
// nothing open, the connection to the kernel least of all, and it ends with the daemon. Where there
// is no daemon, as mounting failed, it waits for a minute.
[[gnu::cold]] int write_when_read(const char* pipe, char word, pid_t parent) {
  ::close_range(0, ~0U, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (word == kMounted) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) return 1;
  } else {
    constexpr unsigned kSeconds = 60;
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(kSeconds);
  }
  const int file = ::open(pipe, O_WRONLY | O_CLOEXEC);
  return file >= 0 && ::write(file, &word, 1) == 1 ? 0 : 1;
}

}  // namespace

// The pipe first: a process that learns it in another way may look there at once.
void Readiness::succeed() {
  if (!notify_pipe_.empty()) write_notify_pipe(kMounted);
  if (descriptor_) tell(descriptor_.get(), "+");
  if (parent_) tell(parent_.get(), "+");
  descriptor_.reset();
  parent_.reset();
}

void Readiness::fail(const Error& error) {
  if (!notify_pipe_.empty()) write_notify_pipe(kFailed);
  if (descriptor_) tell(descriptor_.get(), std::string("-") + error.what());
  // The parent needs the exit code too: one byte before the text.
  if (parent_) {
    tell(parent_.get(),
         std::string{'-', static_cast<char>(static_cast<int>(error.code()))} + error.what());
  }
  descriptor_.reset();
  parent_.reset();
}

[[gnu::cold]] void Readiness::write_notify_pipe(char word) {
  const std::filesystem::path path = std::exchange(notify_pipe_, {});
  // Not blocking: the mount serves also when the pipe has no reader.
  const UniqueFd pipe(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (pipe) return tell(pipe.get(), std::string(1, word));
  if (errno != ENXIO) return;
  try {
    const pid_t parent = ::getpid();
    Child child = Child::fork("start a process for -o notify_pipe",
                              [&] { return write_when_read(path.c_str(), word, parent); });
    if (word == kMounted) {
      notifier_.emplace(std::move(child));
    } else {
      child.release();
    }
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the mount serves nevertheless
  }
}

void wait_for_child(UniqueFd pipe, const std::string& died) {
  const std::string said = read_to_end(pipe.get(), "the readiness pipe");
  if (said.starts_with('+')) return;
  if (said.size() < 2) throw Error(ExitCode::kFailed, died);
  throw Error(static_cast<ExitCode>(static_cast<unsigned char>(said[1])), said.substr(2));
}

void notify_service_manager(const std::string& state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path == nullptr || (path[0] != '/' && path[0] != '@') ||
      std::strlen(path) >= sizeof(address.sun_path)) {
    return;
  }
  const std::size_t length = std::strlen(path);
  std::memcpy(address.sun_path, path, length);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // An abstract socket.
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return;
  ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
           reinterpret_cast<const sockaddr*>(&address),  // NOLINT: how sockets are addressed
           static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

}  // namespace pyram
