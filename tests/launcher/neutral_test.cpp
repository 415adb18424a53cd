// What the first caller's process has of its own (umask, priorities, limits) is nothing to the
// files and the daemon that all later starts use.
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <string>

#include "support/io.h"
#include "tests/launcher/scene.h"
#include "tests/support/catch.h"

using namespace pyram;
using namespace pyram::test;

namespace {

mode_t mode_of(const std::filesystem::path& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

std::size_t first_processor() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  REQUIRE(::sched_getaffinity(0, sizeof mask, &mask) == 0);
  std::size_t number = 0;
  while (!CPU_ISSET(number, &mask)) ++number;
  return number;
}

}  // namespace

TEST_CASE("no umask shuts later starts out") {
  const Scene scene;
  const std::string umask = GENERATE("0177", "0777");
  const Outcome first = scene.shell(Who::kPlain, "umask " + umask + "; \"$0\" -c 'print(1)'");
  INFO(first.errors);
  CHECK(first.output == "1\n");
  // A mount that everybody sees, and none in a namespace.
  CHECK(scene.mounts().size() == 1);
  CHECK(mode_of(scene.runtime(Who::kPlain)) == 0700);
  for (const auto& entry : std::filesystem::directory_iterator(scene.runtime(Who::kPlain))) {
    INFO(entry.path());
    if (entry.path().extension() == ".lock") CHECK(mode_of(entry.path()) == 0600);
  }
  for (const pid_t pid : scene.daemons()) kill_and_wait(pid);
  CHECK(scene.start(Who::kPlain, {"-c", "print(2)"}).output == "2\n");
  CHECK(scene.mounts().size() == 1);
}

TEST_CASE("modes that an earlier version left behind are mended") {
  const Scene scene;
  REQUIRE(scene.start(Who::kPlain, {"-c", "pass"}).ok());
  for (const pid_t pid : scene.daemons()) kill_and_wait(pid);
  for (const std::string& mount : scene.mounts()) {
    REQUIRE(run({.arguments = {"umount", "-l", mount}}).ok());
    REQUIRE(::chmod(mount.c_str(), 0600) == 0);
    REQUIRE(::chmod((mount + ".lock").c_str(), 0) == 0);
  }
  const Outcome outcome = scene.start(Who::kPlain, {"-c", "print(1)"});
  INFO(outcome.errors);
  CHECK(outcome.output == "1\n");
  CHECK(scene.mounts().size() == 1);
}

TEST_CASE("the daemon has nothing of its first caller's scheduling and limits") {
  if (!running_as_root()) PYRAM_SKIP("a user may not take back what nice did");
  const Scene scene;
  const Who who = GENERATE(Who::kSelf, Who::kPlain);
  const bool is_root = who == Who::kSelf;
  // Only root may take these back.
  const std::string raised = is_root ? "nice -n 7 chrt --idle 0 " : "chrt --batch 0 ";
  const Outcome outcome =
      scene.shell(who, "ulimit -S -n 128; ulimit -S -s 4096; ulimit -S -c 0; exec taskset -c " +
                           std::to_string(first_processor()) + " ionice -c 3 " + raised +
                           "\"$0\" -c 'import os; print(os.sched_getscheduler(0))'");
  INFO(outcome.errors);
  REQUIRE(outcome.output == std::to_string(is_root ? SCHED_IDLE : SCHED_BATCH) + "\n");
  const std::vector<pid_t> daemons = scene.daemons();
  REQUIRE_FALSE(daemons.empty());
  for (const pid_t pid : daemons) {
    CHECK(::sched_getscheduler(pid) == SCHED_OTHER);
    if (is_root) CHECK(::getpriority(PRIO_PROCESS, static_cast<id_t>(pid)) == 0);
    constexpr int kThisProcess = 1;
    constexpr int kClassShift = 13;
    constexpr int kIdleClass = 3;
    CHECK(::syscall(SYS_ioprio_get, kThisProcess, pid) >> kClassShift != kIdleClass);
    const std::string limits = read_file("/proc/" + std::to_string(pid) + "/limits");
    for (const std::string name : {"Max open files", "Max stack size", "Max core file size"}) {
      std::istringstream line(limits.substr(limits.find(name) + name.size()));
      std::string soft;
      std::string hard;
      line >> soft >> hard;
      INFO(name);
      CHECK(soft == hard);
    }
    cpu_set_t ours;
    cpu_set_t theirs;
    REQUIRE(::sched_getaffinity(0, sizeof ours, &ours) == 0);
    REQUIRE(::sched_getaffinity(pid, sizeof theirs, &theirs) == 0);
    CHECK(CPU_COUNT(&theirs) >= CPU_COUNT(&ours));
  }
}
