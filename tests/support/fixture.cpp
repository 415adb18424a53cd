#include "tests/support/fixture.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "support/unique_fd.h"
#include "tests/support/catch.h"

namespace pyram::test {

namespace fs = std::filesystem;

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (fs::temp_directory_path() / "pyram-test-XXXXXX").native();
  if (::mkdtemp(name.data()) == nullptr || ::chmod(name.c_str(), 0755) != 0) {
    throw std::runtime_error("cannot make a temporary directory");
  }
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;  // A destructor can't report, and the next reboot cleans up.
  fs::remove_all(path_, ignored);
}

std::string program(std::string_view name) { return std::string(PYRAM_TEST_BIN "/").append(name); }

fs::path default_image() {
  const char* variable = std::getenv("PYRAM_TEST_IMAGE");
  const fs::path path = variable != nullptr
                            ? fs::path(variable)
                            : fs::path(PYRAM_TEST_SOURCE "/build/images/default.sqfs");
  INFO("the default image, which tests/run builds: " << path);
  REQUIRE(fs::exists(path));
  return path;
}

bool running_as_root() { return ::geteuid() == 0; }

Command as_plain_user(std::vector<std::string> arguments, std::vector<std::string> extra) {
  Command command;
  command.environment.emplace(std::move(extra));
  command.environment->push_back("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
  if (running_as_root()) {
    const std::string id = std::to_string(kPlainUser);
    command.arguments = {"setpriv",
                         "--reuid=" + id,
                         "--regid=" + id,
                         "--clear-groups",
                         "--inh-caps=-all",
                         "--bounding-set=+all",
                         "--"};
  }
  command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
  return command;
}

void give_to_plain_user(const fs::path& path) {
  if (running_as_root()) REQUIRE(::lchown(path.c_str(), kPlainUser, kPlainUser) == 0);
}

bool is_mounted(const fs::path& directory) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, mount_point;
    fields >> id >> parent >> device >> root >> mount_point;
    if (mount_point == directory.native()) return true;
  }
  return false;
}

void kill_and_wait(pid_t pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return;
  ::kill(pid, SIGKILL);
  pollfd polled{process.get(), POLLIN, 0};
  REQUIRE(::poll(&polled, 1, 10'000) == 1);
}

}  // namespace pyram::test
