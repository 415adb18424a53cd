// pyram-mount as a function, for every program that is pyram-mount among other things.
#pragma once

namespace pyram {

// What main() is: takes the command line, mounts and serves or talks to a daemon, prints what went
// wrong as one line on stderr, and returns the exit code. To be called once, before any thread is
// there: it closes inherited descriptors and forks.
[[nodiscard]] int mount_program(int argc, char** argv);

}  // namespace pyram
