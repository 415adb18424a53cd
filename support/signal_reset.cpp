#include "support/signal_reset.h"

#include <algorithm>
#include <csignal>

namespace pyram {

bool is_ignored(int signal) noexcept {
  struct sigaction action {};
  // The C library refuses to show its own two.
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

void reset_signals(std::initializer_list<int> kept) noexcept {
  for (int signal = 1; signal < NSIG; ++signal) {
    if (!is_ignored(signal)) continue;
    if (std::find(kept.begin(), kept.end(), signal) != kept.end()) continue;
    ::signal(signal, SIG_DFL);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace pyram
