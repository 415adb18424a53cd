// What a start costs, in counts that a busy machine doesn't change.
#include "tests/regression/counts.h"

#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <filesystem>
#include <regex>

#include "support/image_layout.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::test::check_count;
using pyram::test::default_image;
using pyram::test::Mount;
using pyram::test::program;
using pyram::test::TemporaryFolder;

namespace {

constexpr char kDjango[] = PYRAM_TEST_SOURCE "/benchmarks/work/django_page.py";

// The mounted PyPy's command line, as the launcher would exec it.
std::vector<std::string> interpreter(const Mount& mount, std::vector<std::string> arguments) {
  std::vector<std::string> line{
      mount / pyram::layout::kLoader,      "--argv0",
      mount / pyram::layout::kInterpreter, "--library-path",
      mount / pyram::layout::kLibraries,   mount / pyram::layout::kProgram};
  line.insert(line.end(), arguments.begin(), arguments.end());
  return line;
}

void start(const Mount& mount, std::vector<std::string> arguments) {
  const auto outcome = pyram::run({.arguments = interpreter(mount, std::move(arguments)),
                                   .environment = std::vector<std::string>{"PATH=/usr/bin:/bin"}});
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
}

struct Counts {
  explicit Counts(const Mount& mount)
      : requests(mount.count("requests")),
        ioctls(mount.count("requests_ioctl")),
        reads(mount.count("requests_read")),
        decompressed(mount.count("decompressed_bytes")),
        read(mount.count("image_read_bytes")) {}
  std::uint64_t requests;
  std::uint64_t ioctls;
  std::uint64_t reads;
  std::uint64_t decompressed;
  std::uint64_t read;
};

// Page faults of a command that ends well.
std::uint64_t page_faults(std::vector<std::string> arguments) {
  std::vector<char*> pointers;
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  char path[] = "PATH=/usr/bin:/bin";
  char* environment[] = {path, nullptr};
  pid_t child = 0;
  REQUIRE(::posix_spawn(&child, pointers[0], nullptr, nullptr, pointers.data(), environment) == 0);
  int status = 0;
  struct rusage usage {};
  REQUIRE(::wait4(child, &status, 0, &usage) == child);
  REQUIRE(status == 0);
  return static_cast<std::uint64_t>(usage.ru_minflt);
}

// What callgrind wrote down.
std::uint64_t instructions(const fs::path& dump) {
  const std::string text = pyram::read_file(dump);
  std::smatch found;
  REQUIRE(std::regex_search(text, found, std::regex("totals: ([0-9]+)")));
  return std::stoull(found[1]);
}

}  // namespace

TEST_CASE("starts ask the daemon, read and decompress no more than recorded") {
  struct Start {
    std::string name;
    std::vector<std::string> arguments;
  };
  const auto work = GENERATE(Start{"pass", {"-c", "pass"}}, Start{"django", {kDjango}});
  // Who is first at a block, a prefetch or the reader, is chance: without prefetch nothing is.
  const Mount mount(default_image(), {"--prefetch", "none"});
  const std::string& name = work.name;

  start(mount, work.arguments);
  const Counts first(mount);
  check_count(name + ": requests", first.requests);
  check_count(name + ": bytes decompressed", first.decompressed);
  check_count(name + ": bytes read of the image", first.read);

  start(mount, work.arguments);
  const Counts second(mount);
  check_count(name + ", again: requests but ioctls and reads",
              (second.requests - second.ioctls - second.reads) -
                  (first.requests - first.ioctls - first.reads));
  // Nothing is read twice. But once in ten starts PyPy executes code of its own that no start
  // before it did, and some pages of its library come anew.
  CHECK((second.reads - first.reads) * 10 < first.reads);
  CHECK((second.decompressed - first.decompressed) * 10 < first.decompressed);
}

TEST_CASE("a warm start takes no more page faults than recorded") {
  const Mount mount(default_image());
  start(mount, {"-c", "pass"});
  check_count("pass, warm: page faults", page_faults(interpreter(mount, {"-c", "pass"})));
}

TEST_CASE("the launcher executes no more instructions than recorded") {
  PYRAM_SKIP_WITH_SANITIZERS("valgrind runs no program that has one");
  if (!pyram::find_program("valgrind")) PYRAM_SKIP("valgrind is not installed");
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_all);
  const std::string runtime = "XDG_RUNTIME_DIR=" + folder.path().native();
  const std::string image = "PYRAM_IMAGE=" + default_image().native();
  const std::vector<std::string> environment{"PATH=/usr/bin:/bin", "HOME=/nonexistent", runtime,
                                             image, "PYRAM_IDLE_TIMEOUT=1"};
  // Holds the mount busy, so that the counted start finds it.
  const auto counted = folder / "callgrind";
  const std::string script =
      "import subprocess, sys\n"
      "sys.exit(subprocess.call(sys.argv[1:]))\n";
  const auto outcome =
      pyram::run({.arguments = {program("pyram"), "-c", script, "valgrind", "--tool=callgrind",
                                "--callgrind-out-file=" + counted.native(), "--dump-before=execve",
                                program("pyram"), "-c", "pass"},
                  .environment = environment});
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    if (pyram::test::is_mounted(entry.path())) {
      const auto unmounted =
          pyram::run({.arguments = {program("pyram-mount"), "--unmount", entry.path().native()}});
      CHECK(unmounted.status == 0);
      break;
    }
  }
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  // From gcc 13 on, a static program sorts its unwinding tables before main.
  check_count(__GNUC__ < 13 ? "launcher, warm: instructions"
                            : "launcher, warm, gcc 13 or newer: instructions",
              // The dump before execve: what was executed of the launcher, from its first
              // instruction on.
              instructions(folder / "callgrind.1"));
}

TEST_CASE("a mount executes no more instructions than recorded") {
  PYRAM_SKIP_WITH_SANITIZERS("valgrind runs no program that has one");
  if (!pyram::find_program("valgrind")) PYRAM_SKIP("valgrind is not installed");
  if (__GNUC__ >= 13) PYRAM_SKIP("recorded with gcc 12; newer ones sort the tables before main");
  const TemporaryFolder folder;
  const auto counted = folder / "callgrind";
  fs::create_directory(folder / "mount");
  // One process, from the first instruction to the end of an unused mount. An exception on the way,
  // and be it caught, would be 15 million: the unwinder sorts its tables for the first.
  const auto outcome = pyram::run(
      {.arguments = {"valgrind", "--tool=callgrind", "--callgrind-out-file=" + counted.native(),
                     program("pyram-mount"), "-f", "-o", "nosupervisor,noconfine", "--prefetch",
                     "none", "--idle-timeout", "1", default_image(), folder / "mount"}});
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  check_count("mount: instructions", instructions(counted));
}
