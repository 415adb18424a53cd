#include "fusefs/supervise/signals.h"

#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>

#include "support/error.h"
#include "support/signal_reset.h"

namespace pyram {

UniqueFd open_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    if (!is_ignored(signal)) ::sigaddset(&set, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) throw system_error(ExitCode::kFailed, errno, "make a signal descriptor");
  return signals;
}

void read_signals(int descriptor) {
  signalfd_siginfo info{};
  while (::read(descriptor, &info, sizeof(info)) > 0) {
  }
}

}  // namespace pyram
