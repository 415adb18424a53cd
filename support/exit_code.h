// Exit codes of pyram-mount and pyram-image; documented in docs/exit-codes.md.
//
// pyram itself only ever uses kLauncherFailed: every other code is the script's own.
#pragma once

namespace pyram {

enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,           // Something that has no code of its own.
  kUsage = 2,            // The command line makes no sense.
  kBadImage = 3,         // Not a SquashFS, truncated, corrupt or not supported.
  kBadMountPoint = 4,    // Missing, not a directory, not empty, in use, or not mounted.
  kNoFuse = 5,           // No /dev/fuse, no permission on it, or no fusermount3.
  kBadSource = 6,        // A package, tarball, directory or network that an image is made from.
  kCannotWrite = 7,      // No space, or an output that cannot be written.
  kMissingTool = 8,      // A program that we call is not installed.
  kVerification = 9,     // A digest or a signature does not match.
  kOutdated = 10,        // pyram-image outdated: Debian has newer packages.
  kLauncherFailed = 125  // pyram could not start the interpreter (as `env` and `timeout` use it).
};

}  // namespace pyram
