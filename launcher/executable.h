// The launcher's real file, and the path by which it was called.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace pyram::launcher {

struct Executable {
  // The launcher's own file, every link followed. Empty where /proc is not mounted.
  std::string file;
  // The path that leads to it as the caller wrote it, links not followed: what PyPy makes
  // sys.executable from. Going through the launcher, it outlives every mount; and through a
  // virtual environment's bin/python, it tells site.py where the pyvenv.cfg is.
  std::string called_as;
  // The directory of the program that `file` is a copy of, in a virtual environment that has copies
  // in place of links. Otherwise nothing, or the directory of `file`.
  std::string home;
  // How the daemon is started, where that is not the program pyram-mount.
  std::vector<std::string> daemon;

  // Where what belongs to the launcher may lie: the directory of `file`, and `home`.
  [[nodiscard]] std::vector<std::string> directories() const;
};

// `argv0` is argv[0] as the process got it; it may be any text or null.
[[nodiscard]] Executable find_executable(const char* argv0);

// The program NAME (`pyram-mount`, ...): beside the launcher, else in PATH and the usual
// directories.
[[nodiscard]] std::optional<std::string> find_companion(const Executable& self, const char* name);

// How a command line of pyram-mount's begins. Throws Error when there is no pyram-mount.
[[nodiscard]] std::vector<std::string> daemon_command(const Executable& self);

}  // namespace pyram::launcher
