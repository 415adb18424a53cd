// What a start costs, in counts that a busy machine doesn't change.
#include "tests/regression/counts.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <regex>
#include <vector>

#include "support/image_layout.h"
#include "support/io.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::test::check_count;
using pyram::test::default_image;
using pyram::test::Mount;
using pyram::test::program;
using pyram::test::TemporaryDirectory;

namespace {

constexpr char kDjango[] = PYRAM_TEST_SOURCE "/benchmarks/work/django_page.py";

// The mounted PyPy's command line, as the launcher would exec it.
std::vector<std::string> interpreter(const Mount& mount, std::vector<std::string> arguments) {
  std::vector<std::string> line{
      mount / pyram::layout::kLoader,      "--argv0",
      mount / pyram::layout::kInterpreter, "--library-path",
      pyram::layout::kLibraryPath,         mount / pyram::layout::kProgram};
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
  pointers.reserve(arguments.size() + 1);
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

// Pages of a file that are in the kernel's page cache.
std::uint64_t cached_pages(const fs::path& path) {
  const pyram::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(file);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t size = fs::file_size(path);
  const auto unmap = [size](void* memory) { ::munmap(memory, size); };
  // Mapped, but not touched.
  void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  REQUIRE(memory != MAP_FAILED);
  const std::unique_ptr<void, decltype(unmap)> mapping(memory, unmap);
  std::vector<unsigned char> pages((size + page - 1) / page);
  REQUIRE(::mincore(memory, size, pages.data()) == 0);
  return static_cast<std::uint64_t>(
      std::ranges::count_if(pages, [](unsigned char state) { return (state & 1U) != 0; }));
}

// A copy of one of our programs, which the page cache has nothing of where that can be had.
fs::path cold_copy(const std::string& name, const fs::path& directory) {
  fs::copy_file(program(name), directory / name);
  const pyram::UniqueFd file(::open((directory / name).c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(file);
  // Only what is on the disk can be let go of.
  REQUIRE(::fsync(file.get()) == 0);
  REQUIRE(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  return directory / name;
}

// Where the launcher mounted something below `directory`, unmounts it.
void unmount_below(const fs::path& directory) {
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!pyram::test::is_mounted(entry.path())) continue;
    const auto unmounted =
        pyram::run({.arguments = {program("pyram-mount"), "--unmount", entry.path().native()}});
    CHECK(unmounted.status == 0);
    break;
  }
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
  const TemporaryDirectory directory;
  fs::permissions(directory.path(), fs::perms::owner_all);
  const std::string runtime = "XDG_RUNTIME_DIR=" + directory.path().native();
  const std::string image = "PYRAM_IMAGE=" + default_image().native();
  const std::vector<std::string> environment{"PATH=/usr/bin:/bin", "HOME=/nonexistent", runtime,
                                             image, "PYRAM_IDLE_TIMEOUT=1"};
  // Holds the mount busy, so that the counted start finds it.
  const auto counted = directory / "callgrind";
  const std::string script =
      "import subprocess, sys\n"
      "sys.exit(subprocess.call(sys.argv[1:]))\n";
  const auto outcome =
      pyram::run({.arguments = {program("pyram"), "-c", script, "valgrind", "--tool=callgrind",
                                "--callgrind-out-file=" + counted.native(), "--dump-before=execve",
                                program("pyram"), "-c", "pass"},
                  .environment = environment});
  unmount_below(directory.path());
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  // Recorded when a static program of gcc 13 sorted its unwinding tables before main.
  check_count(__GNUC__ < 13 ? "launcher, warm: instructions"
                            : "launcher, warm, gcc 13 or newer: instructions",
              // The dump before execve: what was executed of the launcher, from its first
              // instruction on.
              instructions(directory / "callgrind.1"));
}

TEST_CASE("a mount executes no more instructions than recorded") {
  PYRAM_SKIP_WITH_SANITIZERS("valgrind runs no program that has one");
  if (!pyram::find_program("valgrind")) PYRAM_SKIP("valgrind is not installed");
  if (__GNUC__ >= 13) PYRAM_SKIP("recorded with gcc 12");
  const TemporaryDirectory directory;
  const auto counted = directory / "callgrind";
  fs::create_directory(directory / "mount");
  // One process, from the first instruction to the end of an unused mount.
  const auto outcome = pyram::run(
      {.arguments = {"valgrind", "--tool=callgrind", "--callgrind-out-file=" + counted.native(),
                     program("pyram-mount"), "-f", "-o", "nosupervisor,noconfine", "--prefetch",
                     "none", "--idle-timeout", "1", default_image(), directory / "mount"}});
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  check_count("mount: instructions", instructions(counted));
}

TEST_CASE("a failing start executes no more instructions than recorded") {
  PYRAM_SKIP_WITH_SANITIZERS("valgrind runs no program that has one");
  if (PYRAM_TEST_STATIC == 0) PYRAM_SKIP("recorded of a static program");
  if (!pyram::find_program("valgrind")) PYRAM_SKIP("valgrind is not installed");
  const TemporaryDirectory directory;
  const auto counted = directory / "callgrind";
  // An unwinder without a sorted table of the program makes one for the first exception: millions.
  const auto outcome = pyram::run(
      {.arguments = {"valgrind", "--tool=callgrind", "--callgrind-out-file=" + counted.native(),
                     program("pyram"), "--image", "/nonexistent.sqfs", "-c", "pass"},
       .environment = std::vector<std::string>{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}});
  INFO(outcome.errors);
  REQUIRE(outcome.status == static_cast<int>(pyram::ExitCode::kLauncherFailed));
  check_count("launcher, no such image: instructions", instructions(counted));
}

TEST_CASE("a cold start reads little of our programs") {
  PYRAM_SKIP_WITH_SANITIZERS("these programs are not laid out for it");
  if (PYRAM_TEST_STATIC == 0) PYRAM_SKIP("only static programs are laid out for it");
  const TemporaryDirectory directory;
  const std::vector<fs::path> programs{cold_copy("pyram", directory.path()),
                                       cold_copy("pyram-mount", directory.path())};
  for (const fs::path& path : programs) {
    if (cached_pages(path) > 0) {
      PYRAM_SKIP("the file system of " + directory.path().native() +
                 " keeps files in memory: nothing is read cold there");
    }
  }
  const fs::path runtime = directory / "run";
  fs::create_directory(runtime);
  fs::permissions(runtime, fs::perms::owner_all);
  const auto outcome = pyram::run(
      {.arguments = {programs[0], "-c", "pass"},
       .environment = std::vector<std::string>{"PATH=/usr/bin:/bin", "HOME=/nonexistent",
                                               "XDG_RUNTIME_DIR=" + runtime.native(),
                                               "PYRAM_IMAGE=" + default_image().native()}});
  const std::uint64_t launcher = cached_pages(programs[0]);
  const std::uint64_t daemon = cached_pages(programs[1]);
  unmount_below(runtime);
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
  check_count("pyram, cold: pages read of it", launcher);
  check_count("pyram-mount, cold: pages read of it", daemon);
  // Whatever the disk's read-ahead.
  constexpr std::uint64_t kMostBytes = 1'200'000;
  CHECK((launcher + daemon) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) <= kMostBytes);
}
