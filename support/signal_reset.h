// Signals as a program finds them that inherited nobody's settings.
#pragma once

namespace pyram {

// Gives every signal that is ignored its default action, and blocks none in this thread. These are
// what a program inherits, and they can make it misbehave: where SIGCHLD is ignored (by wrappers
// like nohup, by the first process of a container) the kernel forgets how a child ended, and a
// signal that is blocked interrupts nobody. Handlers stay: after exec they are the program's own (a
// sanitizer's), and before it exec takes them away.
//
// For the start of a program, and for a child between fork and exec. Async-signal-safe.
void reset_signals() noexcept;

}  // namespace pyram
