// A worker that dies, whatever of, is replaced, and nobody who uses the mount notices.
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "fusefs/status.h"
#include "support/error.h"
#include "support/io.h"
#include "tests/reliability/readers.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::Outcome;
using namespace pyram::test;

namespace {

constexpr int kFiles = 16;
constexpr std::size_t kFileSize = std::size_t{1} << 20;
constexpr int kReaders = 8;

fs::path image_of_files(const TemporaryDirectory& directory) {
  make_files(directory / "tree", kFiles, kFileSize);
  return make_image(directory / "tree", directory / "files.sqfs");
}

// A value of the status, asked without another process. Throws Error where nobody answers.
pid_t process_in_status(const fs::path& directory, const std::string& name) {
  const std::string text = '\n' + pyram::query_status(directory);
  const std::string key = '\n' + name + '=';
  const std::size_t at = text.find(key);
  REQUIRE(at != std::string::npos);
  return std::stoi(text.substr(at + key.size()));
}

// Sends `signal` to the worker `times` times, each time to a new one.
void end_workers(const fs::path& directory, int times, int signal) {
  for (int i = 0; i < times; ++i) {
    // As often as is asked for, and no oftener: one that dies at once, five times, is given up.
    constexpr int kMilliseconds = 200;
    ::poll(nullptr, 0, kMilliseconds);
    const pid_t worker = process_in_status(directory, "worker_pid");
    REQUIRE(::kill(worker, signal) == 0);
    wait_for_end(worker);
  }
}

std::string first_line(const Outcome& outcome) {
  return outcome.errors.substr(0, outcome.errors.find('\n'));
}

Outcome pyram_mount(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program("pyram-mount"));
  return pyram::run({.arguments = std::move(arguments)});
}

}  // namespace

TEST_CASE("readers notice nothing while the worker is killed every 200 ms") {
  const auto by = GENERATE(Mount::By::kUs, Mount::By::kUser);
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory), {}, by);
  if (by == Mount::By::kUser && running_as_root()) {
    // Only he may read it, so only the worker is looked at: by him.
    CHECK(mount.worker() != mount.daemon());
    const pid_t worker = mount.worker();
    REQUIRE(::kill(worker, SIGKILL) == 0);
    wait_for_end(worker);
    CHECK(pyram::run(as_plain_user({"cmp", (mount / "file-0").native(),
                                    (directory / "tree/file-0").native()}))
              .ok());
    CHECK(mount.count("worker_restarts") == 1);
    return;
  }
  const int kills = 20 * length_factor();
  Readers readers(directory / "tree", mount.path(), kReaders);
  end_workers(mount.path(), kills, SIGKILL);
  readers.wait_for_reads(100);
  readers.stop();
  std::printf("%d kills, %llu ranges compared\n", kills,
              static_cast<unsigned long long>(readers.reads()));
  CHECK(readers.differences() == 0);
  CHECK(readers.errors() == 0);
  CHECK(readers.other_errors() == 0);
  CHECK(mount.count("worker_restarts") == static_cast<std::uint64_t>(kills));
}

TEST_CASE("what signals its caller ignores and blocks is nothing to the daemon") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  // As wrappers like nohup and the first processes of containers leave it. A reload wakes threads
  // by SIGUSR1.
  REQUIRE(pyram::run({.arguments = {"env", "--ignore-signal", "--block-signal",
                                    program("pyram-mount"), image.native(), point.native()}})
              .ok());
  const pid_t daemon = process_in_status(point, "pid");
  const std::string status = pyram::read_file("/proc/" + std::to_string(daemon) + "/status");
  const auto mask = [&](const std::string& name) {
    const std::size_t at = status.find(name);
    REQUIRE(at != std::string::npos);
    return std::stoull(status.substr(at + name.size()), nullptr, 16);
  };
  constexpr auto bit = [](int signal) { return 1ULL << (signal - 1); };
  CHECK((mask("SigIgn:") & (bit(SIGCHLD) | bit(SIGUSR1) | bit(SIGSEGV))) == 0);
  CHECK(mask("SigBlk:") == (bit(SIGTERM) | bit(SIGINT) | bit(SIGHUP)));

  end_workers(point, 1, SIGKILL);
  CHECK(pyram::read_file(point / "file-1") == pyram::read_file(directory / "tree/file-1"));
  if (mask("SigBlk:") == (bit(SIGTERM) | bit(SIGINT) | bit(SIGHUP))) {  // It would wait for ever.
    CHECK(pyram_mount({"--reload", point.native()}).ok());
  }
  CHECK(pyram_mount({"--unmount", point.native()}).ok());
  CHECK_FALSE(is_mounted(point));
}

TEST_CASE("whatever signal ends a worker, another one goes on") {
  const int signal = GENERATE(SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGKILL, SIGTRAP);
  // A sanitizer takes these for a crash of the program's own, which it would report.
  for (const char* variable : {"ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"}) {
    ::setenv(variable, "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0", 1);
  }
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory));
  CHECK(pyram::read_file(mount / "file-1") == pyram::read_file(directory / "tree/file-1"));
  end_workers(mount.path(), 1, signal);
  CHECK(pyram::read_file(mount / "file-2") == pyram::read_file(directory / "tree/file-2"));
  CHECK(mount.count("worker_restarts") == 1);
}

TEST_CASE("before Linux 6.9 requests in flight fail, and nothing else") {
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory), {"-o", "noresend"});
  constexpr int kKills = 10;
  Readers readers(directory / "tree", mount.path(), kReaders);
  end_workers(mount.path(), kKills, SIGKILL);
  readers.wait_for_reads(100);
  readers.stop();
  CHECK(readers.differences() == 0);
  CHECK(readers.other_errors() == 0);
  // The worker has two threads, and so two requests in flight.
  CHECK(readers.errors() <= 2 * kKills);
  CHECK(mount.count("worker_restarts") == kKills);
}

TEST_CASE("a worker that dies at once again and again is given up, with a line that says so") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  const fs::path log = directory / "log";
  const pid_t supervisor = serve_in_foreground(image, point, log);
  std::set<pid_t> killed;
  try {
    for (;;) {
      const pid_t worker = process_in_status(point, "worker_pid");
      if (killed.insert(worker).second) REQUIRE(::kill(worker, SIGKILL) == 0);
    }
  } catch (const pyram::Error&) {  // Nobody answers any more.
  }
  int status = 0;
  REQUIRE(::waitpid(supervisor, &status, 0) == supervisor);
  const std::string said = pyram::read_file(log);
  INFO(said);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == static_cast<int>(pyram::ExitCode::kFailed));
  CHECK(killed.size() >= 5);
  CHECK(said.find("was ended by signal 9 (Killed)") != std::string::npos);
  CHECK(said.find("died 5 times within a second") != std::string::npos);
  CHECK_FALSE(is_mounted(point));
}

TEST_CASE("a worker that was stopped goes on, or is replaced, and readers get their bytes") {
  const int then = GENERATE(SIGCONT, SIGKILL);
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory));
  const pid_t worker = process_in_status(mount.path(), "worker_pid");
  REQUIRE(::kill(worker, SIGSTOP) == 0);
  Readers readers(directory / "tree", mount.path(), kReaders);
  REQUIRE(::kill(worker, then) == 0);
  readers.wait_for_reads(200);
  readers.stop();
  CHECK(readers.differences() == 0);
  CHECK(readers.errors() + readers.other_errors() == 0);
}

TEST_CASE("signals that a worker gets end the whole daemon, which waits for its users") {
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory));
  const pid_t daemon = mount.daemon();
  REQUIRE(::kill(mount.worker(), SIGTERM) == 0);
  wait_for_end(daemon);
  CHECK_FALSE(is_mounted(mount.path()));
}

TEST_CASE("without a supervisor there is one process, and it serves and ends as well") {
  const TemporaryDirectory directory;
  Mount mount(image_of_files(directory), {"-o", "nosupervisor"});
  CHECK(mount.worker() == mount.daemon());
  CHECK(pyram::read_file(mount / "file-3") == pyram::read_file(directory / "tree/file-3"));
  CHECK(first_line(pyram_mount({"--reload", mount.path().native()}))
            .ends_with("it runs without a supervisor"));
  mount.unmount();
}

TEST_CASE("the supervisor is small") {
  PYRAM_SKIP_WITH_SANITIZERS("their memory is in every process");
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory));
  const pid_t daemon = mount.daemon();
  std::size_t threads = 0;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(daemon) + "/task")) {
    if (entry.is_directory()) ++threads;
  }
  CHECK(threads == 1);
  const std::string memory = pyram::read_file("/proc/" + std::to_string(daemon) + "/smaps_rollup");
  const std::string key = "Pss_Anon:";
  const std::size_t at = memory.find(key);
  if (at == std::string::npos) PYRAM_SKIP("this kernel doesn't count Pss_Anon");
  // In KiB. What it has from the program's file is there once for all that run it.
  CHECK(std::stoul(memory.substr(at + key.size())) < 512);
}

TEST_CASE("a reload is noticed by nobody") {
  const std::string option = GENERATE("ro", "noresend");
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory), {"-o", option});
  constexpr int kReloads = 20;
  Readers readers(directory / "tree", mount.path(), kReaders);
  std::set<pid_t> workers;
  for (int i = 0; i < kReloads; ++i) {
    readers.wait_for_reads(10);
    const Outcome outcome = pyram_mount({"--reload", mount.path().native()});
    INFO(outcome.errors);
    REQUIRE(outcome.ok());
    workers.insert(process_in_status(mount.path(), "worker_pid"));
  }
  readers.stop();
  CHECK(readers.differences() == 0);
  CHECK(readers.errors() + readers.other_errors() == 0);
  CHECK(workers.size() == kReloads);
  CHECK(mount.count("worker_reloads") == kReloads);
  CHECK(mount.count("worker_restarts") == 0);
}

TEST_CASE("a reload takes the program that is on disk now, and without one nothing changes") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const fs::path copy = directory / "pyram-mount";
  fs::copy(program("pyram-mount"), copy);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  // Only root may look into a confined process.
  REQUIRE(
      pyram::run({.arguments = {copy.native(), "-o", "noconfine", image.native(), point.native()}})
          .ok());
  const auto program_of_worker = [&] {
    struct stat status {};
    const pid_t worker = process_in_status(point, "worker_pid");
    REQUIRE(::stat(("/proc/" + std::to_string(worker) + "/exe").c_str(), &status) == 0);
    return status.st_ino;
  };
  const ino_t first = program_of_worker();
  fs::copy(program("pyram-mount"), directory / "new");
  fs::rename(directory / "new", copy);
  REQUIRE(pyram_mount({"--reload", point.native()}).ok());
  const ino_t second = program_of_worker();
  struct stat status {};
  REQUIRE(::stat(copy.c_str(), &status) == 0);
  CHECK(second != first);
  CHECK(second == status.st_ino);

  const pid_t worker = process_in_status(point, "worker_pid");
  fs::remove(copy);
  const Outcome outcome = pyram_mount({"--reload", point.native()});
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(pyram::ExitCode::kFailed));
  CHECK(outcome.errors.find(copy.native()) != std::string::npos);
  CHECK(process_in_status(point, "worker_pid") == worker);
  CHECK(pyram::read_file(point / "file-4") == pyram::read_file(directory / "tree/file-4"));
  // And a crash needs no program on disk.
  end_workers(point, 1, SIGKILL);
  CHECK(pyram::read_file(point / "file-5") == pyram::read_file(directory / "tree/file-5"));
  CHECK(pyram_mount({"--unmount", point.native()}).ok());
}

TEST_CASE("a worker that dies or is replaced while it reads ahead holds nobody up") {
  const bool crash = GENERATE(true, false);
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  for (int i = 0; i < 15; ++i) {
    Mount mount(image, {"--prefetch", "all"});
    Readers readers(directory / "tree", mount.path(), kReaders);
    readers.wait_for_reads(static_cast<std::uint64_t>(i));
    if (crash) {
      const pid_t worker = process_in_status(mount.path(), "worker_pid");
      REQUIRE(::kill(worker, SIGKILL) == 0);
    } else {
      REQUIRE(pyram_mount({"--reload", mount.path().native()}).ok());
    }
    readers.wait_for_reads(100);
    readers.stop();
    CHECK(readers.differences() == 0);
    CHECK(readers.errors() + readers.other_errors() == 0);
    mount.unmount();
  }
}
