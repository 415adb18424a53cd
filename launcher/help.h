// What pyram says about itself.
#pragma once

#include <string_view>

namespace pyram::launcher {

inline constexpr std::string_view kVersionLine = "Pyram " PYRAM_VERSION;

inline constexpr std::string_view kIntroduction =
    "Pyram " PYRAM_VERSION
    ": PyPy out of one compressed image. Its own options: pyram --pyram-help";

inline constexpr std::string_view kHelp =
    R"(Usage: pyram [--image NAME|FILE] [--toram] [PyPy's options] [SCRIPT [ARGUMENT...]]

Runs Python on the PyPy of a compressed image: mounts the image where it isn't mounted yet, then
becomes the interpreter. Everything after Pyram's own options goes to PyPy as it is (-c, -m, -, no
script for the prompt, -X, --jit, ...).

Pyram's own options, before all others:
  --image NAME|FILE  run from this image: a file, the name of one in an image directory, or what
                     pyram-image pull got (HOST/REPOSITORY:TAG)
  --toram            decompress the whole image into RAM before the script starts
  --pyram-help       this text
  --pyram-version    Pyram's version
  --pyram-doctor     say whether Pyram works here, and of each way to mount why it works or fails;
                     with --json behind it, for programs

Environment:
  PYRAM_IMAGE         as --image
  PYRAM_BACKEND       the only way to mount that may be used:
                      system, user, fuse, root, userns or extract
  PYRAM_CACHE_SIZE    how much decompressed data the mount's daemon may hold
  PYRAM_IDLE_TIMEOUT  seconds without use after which the mount goes (900); 0: it stays
  PYRAM_MEMORY        sizes of PyPy's heap: auto (smaller up to 1 GiB of memory), small or default

Image directories: ~/.local/share/pyram/images, /usr/local/share/pyram/images, /usr/share/pyram/images
Exit code: the script's own; 125 when Pyram could not start it.)";

}  // namespace pyram::launcher
