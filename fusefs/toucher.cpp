#include "fusefs/toucher.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>

#include "support/error.h"

namespace pyram {
namespace {

[[noreturn]] void look_up(int socket, const std::string& prefix) {
  // Everything else belongs to the daemon, above all the connection to the kernel; and a pipe that
  // the daemon's caller reads would never end for him.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, standard);
  constexpr int kKept = 3;
  if (::dup2(socket, kKept) < 0) ::_exit(1);
  ::close_range(kKept + 1, ~0U, 0);
  std::string path;
  std::array<char, PATH_MAX> name;
  for (;;) {
    const ssize_t got = ::recv(kKept, name.data(), name.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) ::_exit(0);
    path = prefix;
    path.append(name.data(), static_cast<std::size_t>(got));
    struct stat status {};
    // Whether it worked is for the daemon to find out.
    static_cast<void>(::lstat(path.c_str(), &status));
    if (::send(kKept, "", 1, MSG_NOSIGNAL) != 1) ::_exit(0);
  }
}

}  // namespace

Toucher::Toucher(const std::filesystem::path& mount_point) {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    throw system_error(ExitCode::kFailed, errno, "make a socket");
  }
  socket_.reset(pair[0]);
  const UniqueFd theirs(pair[1]);
  const std::string prefix = mount_point.native() + "/";
  child_ = ::fork();
  if (child_ < 0) throw system_error(ExitCode::kFailed, errno, "start a process for prefetching");
  if (child_ == 0) look_up(theirs.get(), prefix);
}

Toucher::~Toucher() {
  socket_.reset();
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Toucher::kill() const { ::kill(child_, SIGKILL); }

bool Toucher::touch(const std::string& path) {
  if (path.size() >= PATH_MAX) return true;
  char answer = 0;
  return ::send(socket_.get(), path.data(), path.size(), MSG_NOSIGNAL) ==
             static_cast<ssize_t>(path.size()) &&
         ::recv(socket_.get(), &answer, 1, 0) == 1;
}

}  // namespace pyram
