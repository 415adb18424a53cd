// What many tests need: temporary directories, our programs, the default image, a plain user.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "support/process.h"

namespace pyram::test {

// A new directory with mode 0755, removed with all that is in it. Nothing may be mounted there
// then.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

// Our program of that name in this build ("pyram", "pyram-mount", "pyram-image").
[[nodiscard]] std::string program(std::string_view name);

// The image that tests/run had built: $PYRAM_TEST_IMAGE, or build/images/default.sqfs.
// Fails the test case where it is missing.
[[nodiscard]] std::filesystem::path default_image();

[[nodiscard]] bool running_as_root();

// The uids and gids that unprivileged tests run under (our own where we are not root); tests/run
// gives them names, without which fusermount3 refuses to work.
inline constexpr uid_t kPlainUser = 61234;
inline constexpr uid_t kOtherUser = 61235;

// `arguments` as a command that runs as the plain user, with no groups and no capabilities, in an
// environment of nothing but PATH and `extra`. As root it goes through setpriv.
[[nodiscard]] Command as_plain_user(std::vector<std::string> arguments,
                                    std::vector<std::string> extra = {});

// Gives a file or directory to the plain user, when we are root.
void give_to_plain_user(const std::filesystem::path& path);

// Whether something is mounted on that directory, as /proc/self/mountinfo says.
[[nodiscard]] bool is_mounted(const std::filesystem::path& directory);

// SIGKILL, and waits until the process has gone.
void kill_and_wait(pid_t pid);

}  // namespace pyram::test
