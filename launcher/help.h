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

Runs Python on the PyPy of a compressed image: mounts the image if it is not mounted yet, then
becomes the interpreter. Everything after Pyram's own options is passed to PyPy (-c, -m, -, no
script for the prompt, -X, --jit, ...).

Pyram's own options, before all others:
  --image NAME|FILE  run from this image: a file, a name in an image directory, or an image that
                     pyram-image pull downloaded (HOST/REPOSITORY:TAG)
  --toram            decompress the whole image into RAM before the script starts
  --pyram-help       print this text
  --pyram-version    print Pyram's version
  --pyram-doctor     report whether Pyram works here, and why each way to mount works or fails;
                     as JSON if --json follows

Environment:
  PYRAM_IMAGE         as --image
  PYRAM_BACKEND       use only this way to mount:
                      system, user, fuse, root, userns or extract
  PYRAM_CACHE_SIZE    maximum size of the daemon's cache of decompressed data
  PYRAM_IDLE_TIMEOUT  seconds without use after which it is unmounted (900); 0: never
  PYRAM_MEMORY        sizes of PyPy's heap: auto (smaller up to 1 GiB of memory), small or default

Image directories: ~/.local/share/pyram/images, /usr/local/share/pyram/images, /usr/share/pyram/images
Exit code: that of the script; 125 if Pyram could not start it.)";

}  // namespace pyram::launcher
