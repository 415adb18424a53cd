#include "tests/support/memory_group.h"

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "support/child.h"
#include "support/error.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"

namespace pyram::test {
namespace fs = std::filesystem;

MemoryGroup::MemoryGroup(std::uint64_t limit) {
  if (!running_as_root()) return;
  const fs::path base = "/sys/fs/cgroup";
  std::ifstream controllers(base / "cgroup.subtree_control");
  const std::string enabled{std::istreambuf_iterator<char>(controllers), {}};
  is_first_ = fs::exists(base / "memory/memory.limit_in_bytes");
  if (!is_first_ && enabled.find("memory") == std::string::npos) return;
  const fs::path made =
      (is_first_ ? base / "memory" : base) / ("pyram-test-memory-" + std::to_string(::getpid()));
  std::error_code error;
  if (!fs::create_directory(made, error)) return;
  directory_ = made;
  std::ofstream stream(directory_ / (is_first_ ? "memory.limit_in_bytes" : "memory.max"));
  stream << limit << std::flush;
  REQUIRE(stream);
}

// Only an empty group can be removed: daemons of the doctor's trials may not have ended yet.
MemoryGroup::~MemoryGroup() {
  if (directory_.empty()) return;
  std::ifstream processes(directory_ / "cgroup.procs");
  for (pid_t pid = 0; processes >> pid;) kill_and_wait(pid);
  ::rmdir(directory_.c_str());
}

Command MemoryGroup::inside(Command command) const {
  std::vector<std::string> arguments{"/bin/sh", "-c", "echo $$ >\"$0\" && unset PWD && exec \"$@\"",
                                     (directory_ / "cgroup.procs").native()};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  command.arguments = std::move(arguments);
  return command;
}

void MemoryGroup::enter() const {
  std::ofstream stream(directory_ / "cgroup.procs");
  stream << ::getpid() << std::flush;
  if (!stream) throw Error(ExitCode::kFailed, "cannot enter " + directory_.native());
}

std::uint64_t MemoryGroup::kills() const {
  std::ifstream stream(directory_ / (is_first_ ? "memory.oom_control" : "memory.events"));
  std::string name;
  for (std::uint64_t count = 0; stream >> name >> count;) {
    if (name == "oom_kill") return count;
  }
  return 0;
}

}  // namespace pyram::test
