// A place to start pyram in: copies of the programs and of the default image (a path of its own, so
// that no mount outside is of the same image), and run-time directories for root and the plain
// user.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/fixture.h"

namespace pyram::test {

enum class Who { kSelf, kPlain };

class Scene {
 public:
  Scene();
  // Unmounts whatever was mounted under the scene, ends the daemons in user namespaces, and removes
  // what was unpacked into RAM.
  ~Scene();
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  [[nodiscard]] std::filesystem::path path(std::string_view name) const {
    return directory_ / name;
  }
  [[nodiscard]] std::string pyram() const { return (directory_ / "bin/pyram").native(); }
  [[nodiscard]] std::string pyram_mount() const {
    return (directory_ / "bin/pyram-mount").native();
  }
  [[nodiscard]] std::string image() const { return (directory_ / "default.sqfs").native(); }
  // XDG_RUNTIME_DIR and the directory in it that pyram makes.
  [[nodiscard]] std::filesystem::path runtime_parent(Who who) const;
  [[nodiscard]] std::filesystem::path runtime(Who who) const {
    return runtime_parent(who) / "pyram";
  }

  // `pyram ARGUMENTS...` with PYRAM_IMAGE and XDG_RUNTIME_DIR set, PATH and nothing else but
  // `extra` (a later setting of a name wins, "NAME" without a value leaves one out).
  [[nodiscard]] Command command(Who who, const std::vector<std::string>& arguments,
                                const std::vector<std::string>& extra = {}) const;
  [[nodiscard]] Outcome start(Who who, const std::vector<std::string>& arguments,
                              const std::vector<std::string>& extra = {}) const;
  // `sh -c TEXT`, in which "$0" is pyram.
  [[nodiscard]] Outcome shell(Who who, const std::string& text,
                              const std::vector<std::string>& extra = {}) const;

  // Mount points under the scene, as this process sees them.
  [[nodiscard]] std::vector<std::string> mounts() const;
  // Processes of the scene's own pyram-mount that aren't zombies.
  [[nodiscard]] std::vector<pid_t> daemons() const;

 private:
  [[nodiscard]] Command environment(Who who, std::vector<std::string> arguments,
                                    const std::vector<std::string>& extra) const;

  TemporaryDirectory directory_;
};

// A hard link where that works, else a copy.
void link_or_copy(const std::filesystem::path& from, const std::filesystem::path& to);

// The content of the default image, unpacked once for all test cases of this program.
[[nodiscard]] const std::filesystem::path& unpacked_image();

}  // namespace pyram::test
