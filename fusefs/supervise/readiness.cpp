#include "fusefs/supervise/readiness.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>

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

}  // namespace

// The pipe first: a process that learns it in another way may look there at once.
void Readiness::succeed() {
  write_notify_pipe('s');
  if (descriptor_) tell(descriptor_.get(), "+");
  if (parent_) tell(parent_.get(), "+");
  descriptor_.reset();
  parent_.reset();
}

void Readiness::fail(const Error& error) {
  write_notify_pipe('f');
  if (descriptor_) tell(descriptor_.get(), std::string("-") + error.what());
  // The parent needs the exit code too: one byte before the text.
  if (parent_) {
    tell(parent_.get(),
         std::string{'-', static_cast<char>(static_cast<int>(error.code()))} + error.what());
  }
  descriptor_.reset();
  parent_.reset();
}

void Readiness::write_notify_pipe(char word) {
  if (notify_pipe_.empty()) return;
  // Not blocking: the mount serves also when the pipe has no reader.
  const UniqueFd pipe(::open(notify_pipe_.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (pipe) tell(pipe.get(), std::string(1, word));
  notify_pipe_.clear();
}

void wait_for_child(UniqueFd pipe) {
  const std::string said = read_to_end(pipe.get(), "the readiness pipe");
  if (said.starts_with('+')) return;
  if (said.size() < 2) {
    throw Error(ExitCode::kFailed, "the daemon died before it could serve; see the system's log");
  }
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
