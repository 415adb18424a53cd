// The interpreter that an image is made of, asked about itself.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "support/process.h"

namespace pyram::builder {

// How an interpreter is started: everything before its own options.
struct Starter {
  std::vector<std::string> words;
};

// An interpreter that runs through a given loader with libraries from given directories only;
// through an emulator where the loader is for another processor than this machine's.
[[nodiscard]] Starter through_loader(const std::filesystem::path& loader,
                                     const std::vector<std::filesystem::path>& library_directories,
                                     const std::filesystem::path& program,
                                     const std::filesystem::path& shown_as);

struct InterpreterFacts {
  std::string implementation;  // "pypy"
  std::string python_version;  // "3.11.11"
  std::string pypy_version;    // "7.3.19"
  std::string version_text;    // sys.version
  std::string short_version;   // "3.11"
  std::string cache_tag;       // "pypy311"
  std::string soabi;           // "pypy311-pp73"
  std::string platform;        // "linux-x86_64"
  std::filesystem::path prefix;
  std::filesystem::path stdlib;
  std::vector<std::filesystem::path> sites;  // Directories of installed packages that exist.
  std::filesystem::path site_in_image;       // Where an image of it has its packages.
};

// Runs a program text in the interpreter, in an environment that holds nothing of the caller's.
// `home` is its HOME and TMPDIR.
[[nodiscard]] Command python_command(const Starter& starter, const std::string& program,
                                     const std::vector<std::string>& arguments,
                                     const std::filesystem::path& home);

// Throws Error (kBadSource) when the interpreter doesn't start, or is no PyPy for Python 3.
[[nodiscard]] InterpreterFacts ask(const Starter& starter, const std::filesystem::path& home);

}  // namespace pyram::builder
