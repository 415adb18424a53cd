// The end of a process that was forked and never became another program.
#pragma once

namespace pyram {

// Ends this process and leaves the objects alone that are its parent's as well. A build with
// AddressSanitizer looks for leaks first, as it does by itself only in std::exit().
[[noreturn]] void end_process(int code);

}  // namespace pyram
