#include "support/memory_groups.h"

#include <fstream>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/fixture.h"

using pyram::kUnlimited;
using pyram::memory_limit_of_groups;
using pyram::test::TemporaryDirectory;

namespace {

constexpr char kUnlimitedVersion1[] = "9223372036854771712\n";

// A machine's /proc and /sys.
class Machine {
 public:
  explicit Machine(const std::string& groups) { write("proc/self/cgroup", groups); }
  void write(const std::string& name, const std::string& text) const {
    const auto file = directory_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  [[nodiscard]] std::uint64_t limit() const { return memory_limit_of_groups(root()); }
  [[nodiscard]] int version() const { return pyram::MemoryGroups(root()).version(); }
  [[nodiscard]] std::string root() const { return directory_.path().native(); }

 private:
  TemporaryDirectory directory_;
};

}  // namespace

TEST_CASE("version 1: the smallest limit of a group and all above it") {
  const Machine machine("9:name=systemd:/x\n4:memory:/a/b\n1:cpu:/\n0::/\n");
  const std::string directory = "sys/fs/cgroup/memory/";
  machine.write(directory + "memory.limit_in_bytes", kUnlimitedVersion1);
  machine.write(directory + "a/memory.limit_in_bytes", "268435456\n");
  machine.write(directory + "a/b/memory.limit_in_bytes", "536870912\n");
  CHECK(machine.version() == 1);
  CHECK(machine.limit() == 268435456);
  machine.write(directory + "a/b/memory.limit_in_bytes", "1048576\n");
  CHECK(machine.limit() == 1048576);
  // What version 2 would say of it counts for nothing.
  machine.write("sys/fs/cgroup/memory.max", "4096\n");
  CHECK(machine.limit() == 1048576);
}

TEST_CASE("version 1: several controllers in one hierarchy") {
  const Machine machine("5:cpu,memory,pids:/a\n");
  machine.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n");
  CHECK(machine.limit() == 4096);
  CHECK(Machine("5:cpu,memoryless:/a\n3:xmemory:/\n").version() == 0);
}

TEST_CASE("version 2: memory.max and memory.high, at every level") {
  const Machine machine("0::/system.slice/site.service\n");
  const std::string slice = "sys/fs/cgroup/system.slice/";
  machine.write(slice + "memory.max", "max\n");
  machine.write(slice + "memory.high", "max\n");
  machine.write(slice + "site.service/memory.max", "max\n");
  machine.write(slice + "site.service/memory.high", "max\n");
  CHECK(machine.version() == 2);
  CHECK(machine.limit() == kUnlimited);
  machine.write(slice + "site.service/memory.max", "536870912\n");
  CHECK(machine.limit() == 536870912);
  machine.write(slice + "site.service/memory.high", "268435456\n");
  CHECK(machine.limit() == 268435456);
  machine.write(slice + "memory.max", "134217728\n");
  CHECK(machine.limit() == 134217728);
}

TEST_CASE("a container's limit is at the top where the group's path is one of the host's") {
  const Machine first("4:memory:/docker/0123\n");
  first.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
  CHECK(first.limit() == 268435456);
  for (const char* const groups : {"0::/\n", "0::/docker/0123\n", "0::/../other\n"}) {
    const Machine second(groups);
    second.write("sys/fs/cgroup/memory.max", "268435456\n");
    CHECK(second.limit() == 268435456);
  }
}

TEST_CASE("what is available: the machine's memory, or less where a group has a limit") {
  const Machine first("4:memory:/a\n");
  const std::string directory = "sys/fs/cgroup/memory/";
  first.write("proc/meminfo", "MemTotal:  4096 kB\nMemAvailable:    2048 kB\n");
  CHECK(pyram::available_memory(first.root()) == 2048U * 1024);
  first.write(directory + "memory.limit_in_bytes", kUnlimitedVersion1);
  first.write(directory + "memory.usage_in_bytes", "123456\n");
  first.write(directory + "a/memory.limit_in_bytes", "1000000\n");
  CHECK(pyram::available_memory(first.root()) == 2048U * 1024);  // No usage, no answer.
  first.write(directory + "a/memory.usage_in_bytes", "700000\n");
  CHECK(pyram::available_memory(first.root()) == 300000);
  first.write(directory + "a/memory.stat",
              "active_file 7\ntotal_inactive_file 100000\ntotal_active_file 200\n");
  CHECK(pyram::available_memory(first.root()) == 400200);
  first.write(directory + "a/memory.usage_in_bytes", "2000000\n");
  CHECK(pyram::available_memory(first.root()) == 0);

  const Machine second("0::/a/b\n");
  const std::string unified = "sys/fs/cgroup/a/";
  CHECK(pyram::available_memory(second.root()) == kUnlimited);
  second.write(unified + "b/memory.max", "max\n");
  second.write(unified + "b/memory.current", "1000\n");
  second.write(unified + "memory.max", "5000\n");
  second.write(unified + "memory.current", "3000\n");
  second.write(unified + "memory.stat", "anon 1\ninactive_file 500\nactive_file 500\n");
  CHECK(pyram::available_memory(second.root()) == 3000);
  second.write(unified + "b/memory.high", "2500\n");
  CHECK(pyram::available_memory(second.root()) == 1500);
}

TEST_CASE("what cannot be read is no limit") {
  CHECK(memory_limit_of_groups("/nowhere") == kUnlimited);
  CHECK(Machine("0::/a\n4:memory:/a\n").limit() == kUnlimited);
  for (const char* const text : {"", "\n", "4:memory", "::::", "0:\n", "4:memory:/a", "0::/a"}) {
    const Machine machine(text);
    CHECK(machine.version() == 0);
    CHECK(machine.limit() == kUnlimited);
  }
  const Machine machine("0::/a\n");
  for (const char* const text : {"", "\n", "most\n", "-1\n", "99999999999999999999999\n"}) {
    machine.write("sys/fs/cgroup/a/memory.max", text);
    CHECK(machine.limit() == kUnlimited);
  }
  machine.write("sys/fs/cgroup/a/memory.max", "0\n");
  CHECK(machine.limit() == 0);
}

TEST_CASE("paths of any length") {
  for (const std::size_t length : {200U, 4000U, 4096U, 8192U, 100'000U}) {
    const Machine machine("4:memory:/" + std::string(length, 'x') + "\n0::/\n");
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
    // The kernel has no longer ones than PATH_MAX.
    CHECK(machine.limit() == (length <= 200 ? 4096 : kUnlimited));
    CHECK(memory_limit_of_groups("/" + std::string(length, 'x')) == kUnlimited);
  }
}
