// Where memory is short, PyPy's garbage collector gets smaller sizes, and nobody sees how.
#include <fstream>
#include <string_view>

#include "launcher/collector.h"
#include "support/collector_defaults.h"
#include "support/memory_groups.h"
#include "tests/launcher/scene.h"
#include "tests/support/catch.h"
#include "tests/support/memory_group.h"

using namespace pyram;
using namespace pyram::launcher;
using namespace pyram::test;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// As gc.get_stats() writes a size.
std::string nursery_of(const CollectorStep* step) {
  REQUIRE(step != nullptr);
  std::string text = step->nursery;
  REQUIRE(text.ends_with('M'));
  text.pop_back();
  return text + ".0MB\n";
}

const std::string kNursery = "import gc; print(gc.get_stats().nursery_size)";

}  // namespace

TEST_CASE("the less memory, the smaller the sizes; PyPy's own heap above a gigabyte") {
  const CollectorStep* const plenty = collector_step(Memory::kAuto, kUnlimited);
  REQUIRE(plenty != nullptr);
  CHECK(plenty == collector_step(Memory::kAuto, 1024 * kMiB + 1));
  CHECK(plenty->nursery == std::string_view(kUsualNursery));
  CHECK(plenty->max_delta == nullptr);
  CHECK(plenty->major_collect == nullptr);
  const CollectorStep* last = nullptr;
  for (const std::uint64_t limit : {128U, 256U, 512U, 1024U}) {
    const CollectorStep* const step = collector_step(Memory::kAuto, limit * kMiB);
    REQUIRE(step != nullptr);
    CHECK(step != last);
    CHECK(step->tunables == nullptr);
    CHECK(step == collector_step(Memory::kAuto, limit * kMiB / 2 + 1));
    CHECK(step->max_delta == std::to_string(limit / 8) + "M");
    last = step;
  }
  CHECK(collector_step(Memory::kAuto, 0) == collector_step(Memory::kAuto, 128 * kMiB));
  CHECK(collector_step(Memory::kSmall, kUnlimited) == collector_step(Memory::kAuto, 256 * kMiB));
  CHECK(collector_step(Memory::kSmall, 0) == collector_step(Memory::kAuto, 0));
  CHECK(collector_step(Memory::kDefault, 0) == nullptr);
}

TEST_CASE("the limit is the machine's where no control group has a smaller one") {
  const MemoryLimit machine = memory_limit("/nowhere");
  CHECK_FALSE(machine.of_group);
  CHECK(machine.bytes > 0);
  CHECK(machine.bytes != kUnlimited);

  const TemporaryDirectory root;
  fs::create_directories(root / "proc/self");
  fs::create_directories(root / "sys/fs/cgroup");
  std::ofstream(root / "proc/self/cgroup") << "0::/\n";
  std::ofstream(root / "sys/fs/cgroup/memory.max") << 4096;
  const MemoryLimit group = memory_limit(root.path().native());
  CHECK(group.of_group);
  CHECK(group.bytes == 4096);
}

TEST_CASE("PYRAM_MEMORY decides, and a variable of the user's own wins") {
  const Scene scene;
  const auto start = [&](std::vector<std::string> settings) {
    return scene.start(Who::kSelf, {"-c", kNursery}, settings).output;
  };
  CHECK(start({"PYRAM_MEMORY=small"}) ==
        nursery_of(collector_step(Memory::kSmall, memory_limit().bytes)));
  CHECK(start({"PYRAM_MEMORY=small", "PYPY_GC_NURSERY=3M"}) == "3.0MB\n");
  CHECK(start({"PYRAM_MEMORY=default", "PYPY_GC_NURSERY=3M"}) == "3.0MB\n");
  const std::string own = start({"PYRAM_MEMORY=default"});
  // Empty counts as not set, and an empty one of PyPy's own as the user's word for PyPy's size.
  CHECK(start({"PYRAM_MEMORY=small", "PYPY_GC_NURSERY="}) == own);
  for (const char* const setting : {"PYRAM_MEMORY", "PYRAM_MEMORY=", "PYRAM_MEMORY=auto"}) {
    CHECK(start({setting}) == nursery_of(collector_step(Memory::kAuto, memory_limit().bytes)));
  }
  for (const char* const setting : {"PYRAM_MEMORY=tiny", "PYRAM_MEMORY=Small"}) {
    const Outcome outcome = scene.start(Who::kSelf, {"-c", "1"}, {setting});
    INFO(outcome.errors);
    CHECK(outcome.status == static_cast<int>(ExitCode::kLauncherFailed));
    CHECK(outcome.errors.starts_with("pyram: cannot use PYRAM_MEMORY="));
    CHECK(outcome.errors.find('\n') == outcome.errors.size() - 1);
  }
}

TEST_CASE("a start ends before the first collection") {
  // When a later version allocates more, collector.cpp wants a larger nursery.
  if (memory_limit().bytes <= 256 * kMiB) PYRAM_SKIP("the nursery is small with little memory");
  const Scene scene;
  const fs::path log = scene.path("log");
  const auto collections = [&](const std::vector<std::string>& settings) {
    std::vector<std::string> all{"PYPYLOG=gc-minor:" + log.native()};
    all.insert(all.end(), settings.begin(), settings.end());
    REQUIRE(scene.start(Who::kSelf, {"-c", "pass"}, all).ok());
    std::ifstream file(log);
    std::size_t count = 0;
    for (std::string line; std::getline(file, line);)
      count += line.ends_with("{gc-minor") ? 1U : 0U;
    return count;
  };
  // One is of a few kilobytes: PyPy replaces its first nursery.
  CHECK(collections({}) == 1);
  CHECK(collections({"PYPY_GC_NURSERY=4M"}) > 1);
}

TEST_CASE("with plenty of memory the nursery has huge pages") {
  std::string mode;
  std::getline(std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled"), mode);
  if (mode.find("[madvise]") == std::string::npos)
    PYRAM_SKIP("huge pages are not asked for here: " + mode);
  if (memory_limit().bytes <= 1024 * kMiB) PYRAM_SKIP("this machine has little memory");
  const Scene scene;
  const auto huge = [&](const std::vector<std::string>& settings) {
    return scene
        .start(Who::kSelf,
               {"-c", "print(next(l for l in open('/proc/self/smaps_rollup') if 'AnonHuge' in l))"},
               settings)
        .output;
  };
  const std::string none = huge({"PYRAM_MEMORY=default"});
  CHECK(none.find(" 0 kB") != std::string::npos);
  CHECK(huge({}) != none);
  // The user's own tunables stay, whatever they are.
  CHECK(huge({"GLIBC_TUNABLES=glibc.malloc.hugetlb=0"}) == none);
}

TEST_CASE("neither a script nor its children see the settings") {
  const Scene scene;
  const std::string script =
      "import ctypes, gc, os, subprocess, sys\n"
      "names = sorted(os.environ)\n"
      "print(names)\n"
      "assert sorted(map(os.fsdecode, os.environb)) == names\n"
      "for line in subprocess.check_output(['env'], text=True).splitlines():\n"
      "    assert not line.startswith(('PYPY_', 'PYRAM_ADDED', 'GLIBC_')), line\n"
      "assert os.system('! env | grep -e ^PYPY_ -e ^PYRAM_ADDED -e ^GLIBC_') == 0\n"
      "getenv = ctypes.CDLL(None).getenv\n"
      "getenv.restype = ctypes.c_char_p\n"
      "assert getenv(b'PYPY_GC_NURSERY') is None and getenv(b'PYRAM_ADDED_VARIABLES') is None\n"
      "size = gc.get_stats().nursery_size\n"
      "child = [sys.executable, '-c', 'import gc; print(gc.get_stats().nursery_size)']\n"
      "assert subprocess.check_output(child, text=True) == size + '\\n'\n"
      "if os.fork() == 0:\n"
      "    os._exit(0 if gc.get_stats().nursery_size == size else 1)\n"
      "assert os.wait()[1] == 0\n";
  for (const char* const option : {"-c", "-Ic", "-SEc"}) {
    const Outcome outcome = scene.start(Who::kSelf, {option, script}, {"PYRAM_MEMORY=small"});
    INFO(outcome.errors);
    CHECK(outcome.errors.empty());
    CHECK(outcome.output == "['PATH', 'PYRAM_IMAGE', 'PYRAM_MEMORY', 'XDG_RUNTIME_DIR']\n");
    const Outcome plenty = scene.start(Who::kSelf, {option, script}, {"PYRAM_MEMORY=auto"});
    INFO(plenty.errors);
    CHECK(plenty.output == outcome.output);
  }
  // The user's own stay.
  const Outcome own =
      scene.start(Who::kSelf, {"-c", "import os; print([n for n in os.environ if 'PYPY' in n])"},
                  {"PYRAM_MEMORY=small", "PYPY_GC_MAX_DELTA=20M"});
  CHECK(own.output == "['PYPY_GC_MAX_DELTA']\n");
}

TEST_CASE("what an image without the start-up code left in the environment is not the user's") {
  const Scene scene;
  const std::vector<std::string> left{"PYPY_GC_NURSERY=3M", "PYPY_GC_MAX_DELTA=20M",
                                      "PYRAM_ADDED_VARIABLES=PYPY_GC_NURSERY"};
  const auto start = [&](const std::string& memory) {
    std::vector<std::string> settings = left;
    settings.push_back("PYRAM_MEMORY=" + memory);
    return scene
        .start(Who::kSelf,
               {"-c",
                "import gc, os; print([n for n in os.environ if 'PYPY' in n or 'ADD' in n]);"
                "print(gc.get_stats().nursery_size)"},
               settings)
        .output;
  };
  const std::string kept = "['PYPY_GC_MAX_DELTA']\n";
  CHECK(start("small") == kept + nursery_of(collector_step(Memory::kSmall, memory_limit().bytes)));
  CHECK(start("default") ==
        kept + scene.start(Who::kSelf, {"-c", kNursery}, {"PYRAM_MEMORY=default"}).output);
}

TEST_CASE("a program that grows ends well in a control group of 256 MiB") {
  PYRAM_SKIP_WITH_SANITIZERS("it runs in little memory");
  const Scene scene;
  REQUIRE(scene.start(Who::kSelf, {"-c", "pass"}).ok());
  const MemoryGroup group(256 * kMiB);
  if (!group.exists()) PYRAM_SKIP("no memory control group can be made here");
  // Some 75 MB of objects live, and a third of them is replaced again and again. With a heap that
  // may grow by an eighth of a large machine's memory it takes more than the group has.
  const std::string script =
      "class Node:\n"
      "    __slots__ = ('text', 'number')\n"
      "    def __init__(self, text, number): self.text, self.number = text, number\n"
      "live = [Node(str(i), i) for i in range(500_000)]\n"
      "for round in range(20):\n"
      "    for i in range(0, len(live), 3): live[i] = Node(str(i), round)\n"
      "print(len(live))\n";
  const Outcome outcome = run(group.inside(scene.command(Who::kSelf, {"-c", script})));
  INFO(outcome.errors);
  CHECK(outcome.output == "500000\n");
}

TEST_CASE("a control group's limit decides, also about what a start in it does") {
  PYRAM_SKIP_WITH_SANITIZERS("it runs in little memory");
  constexpr std::uint64_t kLimit = 256 * kMiB;
  const Scene scene;
  // The mount's daemon belongs to no group of this test.
  REQUIRE(scene.start(Who::kSelf, {"-c", "pass"}).ok());
  const MemoryGroup group(kLimit);
  if (!group.exists()) PYRAM_SKIP("no memory control group can be made here");
  const auto start = [&](const std::vector<std::string>& arguments,
                         const std::vector<std::string>& settings = {}) {
    return run(group.inside(scene.command(Who::kSelf, arguments, settings)));
  };
  const Outcome limited = start({"-c", kNursery});
  INFO(limited.errors);
  CHECK(limited.output == nursery_of(collector_step(Memory::kAuto, kLimit)));
  CHECK(start({"-c", "import os; print(sorted(os.environ))"}).output ==
        "['PATH', 'PYRAM_IMAGE', 'XDG_RUNTIME_DIR']\n");
  CHECK(start({"-c", kNursery}, {"PYPY_GC_NURSERY=3M"}).output == "3.0MB\n");
  CHECK(start({"-c", kNursery}, {"PYRAM_MEMORY=default"}).output ==
        scene.start(Who::kSelf, {"-c", kNursery}, {"PYRAM_MEMORY=default"}).output);

  const Outcome doctor = start({"--pyram-doctor"}, {"PYPY_GC_NURSERY=3M"});
  INFO(doctor.output);
  CHECK(doctor.output.find("256 MiB, a control group's limit") != std::string::npos);
  CHECK(doctor.output.find("PYPY_GC_NURSERY=3M (yours)") != std::string::npos);
  CHECK(doctor.output.find(", PYPY_GC_MAX_DELTA=") != std::string::npos);
}
