// Resets what a program inherits for its signals.
#pragma once

#include <initializer_list>

namespace pyram {

// Gives every signal that is ignored its default action, and blocks none in this thread. These are
// what a program inherits, and they can make it misbehave: where SIGCHLD is ignored (by wrappers
// like nohup, by the first process of a container) the kernel forgets how a child ended, and a
// signal that is blocked interrupts nothing. Handlers stay: after exec they are the program's own
// (a sanitizer's), and before it exec takes them away.
//
// `kept`: those stay ignored where they are: a program that a person started with nohup, or in the
// background of a shell without job control, is not to end with its terminal.
//
// For the start of a program, and for a child between fork and exec. Async-signal-safe.
void reset_signals(std::initializer_list<int> kept = {}) noexcept;

// Whether the process ignores a signal now. A blocked signal that is ignored still comes to those
// that wait for it (sigwaitinfo, signalfd): they must not wait for it then.
[[nodiscard]] bool is_ignored(int signal) noexcept;

}  // namespace pyram
