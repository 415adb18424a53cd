// A real mount of an image by our pyram-mount, for as long as an object lives.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/fixture.h"

namespace pyram::test {

class Mount {
 public:
  enum class By { kUs, kUser };

  // Mounts with `options` on a new directory. Fails the test case where that fails.
  explicit Mount(const std::filesystem::path& image, std::vector<std::string> options = {},
                 By by = By::kUs);
  // Unmounts, and returns when the daemon is gone. Programs that still use it are cut off.
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return directory_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const {
    return directory_ / name;
  }

  // What `pyram-mount --status --format json` says, as text by name.
  [[nodiscard]] std::map<std::string, std::string> status() const;
  [[nodiscard]] std::uint64_t count(const std::string& name) const;
  // The process to signal: the supervisor, where there is one.
  [[nodiscard]] pid_t daemon() const;
  // The process that serves.
  [[nodiscard]] pid_t worker() const;

  // Unmounts as a user would. Fails the test case where that fails.
  void unmount();

 private:
  [[nodiscard]] Command command(std::vector<std::string> arguments) const;

  TemporaryDirectory parent_;
  std::filesystem::path directory_;
  By by_;
  bool mounted_ = false;
};

// A daemon in the foreground: a child of ours, with its stderr in the new file `log`. Returns once
// it serves, with its process id. Fails the test case where it doesn't.
[[nodiscard]] pid_t serve_in_foreground(const std::filesystem::path& image,
                                        const std::filesystem::path& directory,
                                        const std::filesystem::path& log,
                                        std::vector<std::string> options = {});

// Kills the daemon, which takes its worker along, and waits for their end: a dead mount is left.
void kill_daemon(const Mount& mount);

// Returns when a process that is no child of ours has ended.
void wait_for_end(pid_t process);

}  // namespace pyram::test
