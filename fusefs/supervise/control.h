// What supervisor and worker say to each other: short messages through a pair of sockets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "support/unique_fd.h"

namespace pyram {

enum class Word : char {
  // The worker's:
  kPrepared = 'p',  // Could serve, and waits for kGo.
  kReady = 'r',     // The kernel and it have agreed: the mount can be used.
  kFailed = 'f',    // Will end; an exit code as one byte, and a text.
  kEnd = 'e',       // It got a signal to end.
  kReload = 'l',    // --reload: a worker of the program that is on disk now.
  kError = 'w',     // A line for the log.
  kInfo = 'i',      // A line for the log.
  kAbsent = 'a',    // Requests wait for bytes that are not here yet.
  // The supervisor's:
  kGo = 'g',       // Serve.
  kDrain = 'd',    // Answer what you have begun, and end.
  kRefused = 'x',  // No reload; a text says why.
};

struct Message {
  Word word{};
  std::string text;
};

// One end. Sending is thread-safe.
class Control {
 public:
  explicit Control(UniqueFd socket) : socket_(std::move(socket)) {}

  // Two ends. Throws Error (kFailed).
  [[nodiscard]] static std::pair<Control, Control> make_pair();

  // A text that is too long is cut. When the other end is gone, nothing happens: receive() tells.
  void send(Word word, std::string_view text = {}) const;
  // Waits for a message. Nothing when the other end is gone.
  [[nodiscard]] std::optional<Message> receive() const;
  // Nothing where there is none now.
  [[nodiscard]] std::optional<Message> receive_now() const;

  // For poll. Readable when receive() would not wait.
  [[nodiscard]] int descriptor() const { return socket_.get(); }

 private:
  UniqueFd socket_;
};

}  // namespace pyram
