#include "fusefs/supervise/control.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "support/error.h"

namespace pyram {
namespace {

constexpr std::size_t kLongest = 2048;

}  // namespace

std::pair<Control, Control> Control::make_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw system_error(ExitCode::kFailed, errno, "make a pair of sockets");
  }
  return {Control(UniqueFd(ends[0])), Control(UniqueFd(ends[1]))};
}

// write and read, not send and recv: a confined worker may use no socket calls.
void Control::send(Word word, std::string_view text) const {
  std::string message(1, static_cast<char>(word));
  message.append(text.substr(0, std::min(text.size(), kLongest - 1)));
  while (::write(socket_.get(), message.data(), message.size()) < 0 && errno == EINTR) {
  }
}

std::optional<Message> Control::receive() const {
  std::array<char, kLongest> buffer;
  ssize_t got = 0;
  do {
    got = ::read(socket_.get(), buffer.data(), buffer.size());
    // ECONNRESET says that the other end went without having read all of ours; what it sent before
    // comes after that.
  } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
  if (got <= 0) return std::nullopt;
  return Message{static_cast<Word>(buffer[0]),
                 std::string(buffer.begin() + 1, buffer.begin() + got)};
}

std::optional<Message> Control::receive_now() const {
  pollfd waiting{socket_.get(), POLLIN, 0};
  if (::poll(&waiting, 1, 0) != 1) return std::nullopt;
  return receive();
}

}  // namespace pyram
