#include "fusefs/serve/lookup_helper.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>

#include "support/error.h"

namespace pyram {
namespace {

void list_directory(const std::string& path) {
  const UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // As much as the daemon answers at once: the names that follow are looked up when wanted.
  std::array<char, std::size_t{64} << 10> entries;
  if (directory) ::syscall(SYS_getdents64, directory.get(), entries.data(), entries.size());
}

}  // namespace

void LookupHelper::answer_all(int socket, std::string& path) {
  // Everything else belongs to the daemon, above all the connection to the kernel. And the caller
  // of the daemon would never see the end of a pipe that this process has open.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, standard);
  constexpr int kKept = 3;
  if (::dup2(socket, kKept) < 0) ::_exit(1);
  ::close_range(kKept + 1, ~0U, 0);
  const std::size_t prefix = path.size();
  std::array<char, PATH_MAX> name;
  for (;;) {
    const ssize_t got = ::recv(kKept, name.data(), name.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) ::_exit(0);
    path.resize(prefix);
    path.append(name.data() + 1, static_cast<std::size_t>(got) - 1);
    // The daemon finds out by itself whether it worked.
    struct stat status {};
    if (Question{name[0]} == Question::kList) {
      list_directory(path);
    } else {
      static_cast<void>(::lstat(path.c_str(), &status));
    }
    if (::send(kKept, "", 1, MSG_NOSIGNAL) != 1) ::_exit(0);
  }
}

LookupHelper::LookupHelper(const std::filesystem::path& mount_point) {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) {
    throw system_error(ExitCode::kFailed, errno, "make a socket");
  }
  socket_.reset(pair[0]);
  const UniqueFd theirs(pair[1]);
  // The child allocates nothing: this process has another thread, which may be allocating now.
  std::string path = mount_point.native() + "/";
  path.reserve(path.size() + PATH_MAX);
  child_.emplace(Child::fork("start a process for prefetching",
                             [&]() -> int { answer_all(theirs.get(), path); }));
}

LookupHelper::~LookupHelper() {
  socket_.reset();
  try {
    child_->wait();
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): then there is nothing to collect.
  }
}

void LookupHelper::kill() const { child_->signal(SIGKILL); }

bool LookupHelper::ask(Question question, const std::string& path) {
  if (path.size() + 1 >= PATH_MAX) return true;
  const std::string message = static_cast<char>(question) + path;
  char answer = 0;
  return ::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL) ==
             static_cast<ssize_t>(message.size()) &&
         ::recv(socket_.get(), &answer, 1, 0) == 1;
}

}  // namespace pyram
