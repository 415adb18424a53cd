// Nothing that fails ends the supervisor, and whatever ends it leaves no dead mount.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fusefs/mount/mount_point.h"
#include "fusefs/status.h"
#include "support/child.h"
#include "support/error.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/process.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using namespace pyram::test;

namespace {

// Seconds: long enough for a busy machine to come to do something before a mount is idle.
constexpr char kIdle[] = "3";
constexpr char kText[] = "hello from the image\n";

fs::path small_image(const TemporaryDirectory& directory) {
  fs::create_directories(directory / "tree");
  pyram::write_file(directory / "tree/hello", kText);
  pyram::write_file(directory / "tree/other", kText);
  return make_image(directory / "tree", directory / "small.sqfs");
}

// A daemon of the plain user in the foreground, whose lines can be waited for.
class UsersDaemon {
 public:
  UsersDaemon(const fs::path& image, const fs::path& directory, std::vector<std::string> options)
      : directory_(directory) {
    fs::create_directory(directory);
    give_to_plain_user(directory);
    auto [ready, tell] = pyram::make_pipe();
    auto [lines, log] = pyram::make_pipe();
    constexpr int kReadyFd = 3;
    options.insert(options.begin(),
                   {program("pyram-mount"), "-f", "--ready-fd", std::to_string(kReadyFd)});
    options.insert(options.end(), {image.native(), directory.native()});
    const std::vector<std::string> words = as_plain_user(std::move(options)).arguments;
    process_.emplace(
        pyram::Child::start({.arguments = words,
                             .path = pyram::find_program(words.front()).value(),
                             .descriptors = {{log.get(), STDERR_FILENO}, {tell.get(), kReadyFd}}}));
    tell.reset();
    log.reset();
    lines_ = std::move(lines);
    char said = 0;
    REQUIRE(::read(ready.get(), &said, 1) == 1);
    REQUIRE(said == '+');
  }

  ~UsersDaemon() {
    process_.reset();
    ::umount2(directory_.c_str(), MNT_DETACH);  // What a test that failed left.
  }
  UsersDaemon(const UsersDaemon&) = delete;
  UsersDaemon& operator=(const UsersDaemon&) = delete;

  [[nodiscard]] pid_t process() const { return process_->pid(); }

  // How many processes its user may have, or "" for as many as before. By its user: root of a
  // container may not.
  void limit_processes(const std::string& most) const {
    const std::string limit = most.empty() ? hard_limit() : most;
    REQUIRE(pyram::run(as_plain_user({"prlimit", "--pid", std::to_string(process()),
                                      "--nproc=" + limit + ':'}))
                .ok());
  }

  // Whether it says something with `text` in it before it ends.
  [[nodiscard]] bool wait_for_words(const std::string& text) {
    std::array<char, 512> buffer;
    while (said_.find(text) == std::string::npos) {
      const ssize_t got = ::read(lines_.get(), buffer.data(), buffer.size());
      if (got <= 0) return false;
      said_.append(buffer.data(), static_cast<std::size_t>(got));
    }
    return true;
  }

  [[nodiscard]] bool can_read() const {
    return pyram::run(as_plain_user({"cat", (directory_ / "hello").native()})).output == kText;
  }

  [[nodiscard]] pid_t worker() const {
    const std::string status =
        pyram::run(as_plain_user({program("pyram-mount"), "--status", "--format", "prometheus",
                                  directory_.native()}))
            .output;
    const std::size_t at = status.find("pyram_worker_pid{");
    REQUIRE(at != std::string::npos);
    return std::stoi(status.substr(status.find("} ", at) + 2));
  }

  // Waits for its end. Its exit code, or 128 and a signal.
  int wait() { return process_->wait(); }

 private:
  static std::string hard_limit() {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NPROC, &limit) == 0);
    return limit.rlim_max == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_max);
  }

  fs::path directory_;
  std::optional<pyram::Child> process_;
  pyram::UniqueFd lines_;
  std::string said_;
};

// A process in a mount namespace of its own, which has a copy of every mount: what a container is
// to a daemon. It reads a file when asked.
class OtherNamespace {
 public:
  OtherNamespace() {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    ours_.reset(ends[0]);
    const pyram::UniqueFd theirs(ends[1]);
    process_ = ::fork();
    REQUIRE(process_ >= 0);
    if (process_ == 0) {
      ours_.reset();
      answer_all(theirs.get());
    }
    char ready = 0;
    REQUIRE(::read(ours_.get(), &ready, 1) == 1);
    REQUIRE(ready == 'y');
  }
  ~OtherNamespace() {
    ours_.reset();
    ::waitpid(process_, nullptr, 0);
  }
  OtherNamespace(const OtherNamespace&) = delete;
  OtherNamespace& operator=(const OtherNamespace&) = delete;

  // What reading a file gives there: 0 or an errno.
  [[nodiscard]] int read(const fs::path& file) const {
    int error = -1;
    REQUIRE(::write(ours_.get(), file.c_str(), file.native().size()) > 0);
    REQUIRE(::read(ours_.get(), &error, sizeof error) == sizeof error);
    return error;
  }

 private:
  [[noreturn]] static void answer_all(int socket) {
    const bool separate = ::unshare(CLONE_NEWNS) == 0 &&
                          ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    std::array<char, 4096> path{};
    if (::write(socket, separate ? "y" : "n", 1) != 1) ::_exit(1);
    for (;;) {
      path.fill('\0');
      if (::read(socket, path.data(), path.size() - 1) <= 0) ::_exit(0);
      std::array<char, 64> bytes{};
      const int file = ::open(path.data(), O_RDONLY | O_CLOEXEC);
      int error = file < 0 || ::read(file, bytes.data(), bytes.size()) <= 0 ? errno : 0;
      if (file >= 0) ::close(file);
      if (::write(socket, &error, sizeof error) != sizeof error) ::_exit(1);
    }
  }

  pyram::UniqueFd ours_;
  pid_t process_ = -1;
};

void wait_until_unmounted(const fs::path& directory) {
  const pyram::UniqueFd mounts(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  while (is_mounted(directory)) {
    pollfd changed{mounts.get(), POLLPRI, 0};
    ::poll(&changed, 1, -1);
  }
}

}  // namespace

TEST_CASE("a supervisor that cannot unmount goes on, and tries again") {
  const bool idle = GENERATE(true, false);
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  UsersDaemon daemon(
      image, directory / "mount",
      idle ? std::vector<std::string>{"--idle-timeout", kIdle} : std::vector<std::string>{});
  daemon.limit_processes("1");  // No room for fusermount3.
  if (!idle) REQUIRE(::kill(daemon.process(), SIGTERM) == 0);
  CHECK(daemon.wait_for_words("fusermount3'"));
  CHECK(is_mounted(directory / "mount"));
  CHECK(daemon.can_read());
  daemon.limit_processes("");
  CHECK(daemon.wait() == 0);
  CHECK_FALSE(is_mounted(directory / "mount"));
}

TEST_CASE("a supervisor that can have no worker ends when the mount is gone") {
  PYRAM_SKIP_WITH_SANITIZERS("the search for leaks at its end is a process of its own");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  UsersDaemon daemon(image, directory / "mount", {});
  const pid_t worker = daemon.worker();
  daemon.limit_processes("1");
  REQUIRE(::kill(worker, SIGKILL) == 0);
  CHECK(daemon.wait_for_words("cannot start a worker"));
  CHECK(pyram::run(as_plain_user({"fusermount3", "-u", (directory / "mount").native()})).ok());
  CHECK(daemon.wait() == 0);
}

TEST_CASE("a worker that can have only some of its threads serves with those") {
  if (!running_as_root()) PYRAM_SKIP("the user's other processes would count");
  PYRAM_SKIP_WITH_SANITIZERS("their threads count too");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  UsersDaemon daemon(image, directory / "mount", {"--threads", "32"});
  const pid_t worker = daemon.worker();
  // The user's processes and threads but for the worker's, and about half of those that it wants.
  rlim_t others = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    struct stat status {};
    std::error_code gone;
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos || std::stoi(name) == worker ||
        ::stat(entry.path().c_str(), &status) != 0 || status.st_uid != kPlainUser) {
      continue;
    }
    for (fs::directory_iterator task(entry.path() / "task", gone), end; !gone && task != end;
         task.increment(gone)) {
      ++others;
    }
  }
  daemon.limit_processes(std::to_string(others + 18));
  REQUIRE(::kill(worker, SIGKILL) == 0);
  CHECK(daemon.wait_for_words("of 32 threads"));
  CHECK(daemon.can_read());
  // It hears what it is told.
  daemon.limit_processes("");
  CHECK(pyram::run(
            as_plain_user({program("pyram-mount"), "--reload", (directory / "mount").native()}))
            .ok());
  CHECK(daemon.can_read());
}

TEST_CASE("who ends a daemon does not wait for copies of its mount in other namespaces") {
  if (!running_as_root()) PYRAM_SKIP("a mount namespace is for root to make");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const std::string kind = GENERATE("of root", "of a user", "without a supervisor", "that records");
  const auto by = kind == "of a user" ? Mount::By::kUser : Mount::By::kUs;
  const fs::path record = directory / "record";
  std::vector<std::string> options;
  if (kind == "without a supervisor") options = {"-o", "nosupervisor"};
  if (kind == "that records") options = {"--record", record.native()};
  INFO(kind);
  const Mount mount(image, options, by);
  const pid_t daemon = mount.daemon();
  const OtherNamespace other;
  if (by == Mount::By::kUs) CHECK(other.read(mount / "hello") == 0);
  REQUIRE(::kill(daemon, SIGTERM) == 0);
  wait_for_end(daemon);
  CHECK_FALSE(is_mounted(mount.path()));
  if (by == Mount::By::kUs) CHECK(other.read(mount / "other") == ENOTCONN);
  CHECK(fs::exists(record) == (kind == "that records"));
  // And the place can be used again.
  if (by == Mount::By::kUser) return;
  REQUIRE(pyram::run({.arguments = {program("pyram-mount"), image.native(), mount.path().native()}})
              .ok());
  CHECK(pyram::read_file(mount / "other") == kText);
}

TEST_CASE("an idle mount goes, and its copies in other namespaces are served") {
  if (!running_as_root()) PYRAM_SKIP("a mount namespace is for root to make");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const Mount mount(image, {"--idle-timeout", kIdle});
  const pid_t daemon = mount.daemon();
  std::optional<OtherNamespace> other(std::in_place);
  wait_until_unmounted(mount.path());
  CHECK(other->read(mount / "hello") == 0);
  // Another start finds a clean place, which the first daemon then leaves alone.
  REQUIRE(pyram::run({.arguments = {program("pyram-mount"), image.native(), mount.path().native()}})
              .ok());
  CHECK(mount.daemon() != daemon);
  SECTION("until they are gone") { other.reset(); }
  SECTION("until the daemon is told to end") { REQUIRE(::kill(daemon, SIGTERM) == 0); }
  wait_for_end(daemon);
  if (other) CHECK(other->read(mount / "other") == ENOTCONN);
  CHECK(pyram::read_file(mount / "other") == kText);
}

TEST_CASE("who uses a mount when its daemon is told to end is served, however often it is told") {
  if (!running_as_root()) PYRAM_SKIP("binding a mount is for root");
  const TemporaryDirectory directory;
  const Mount mount(small_image(directory));
  const pid_t daemon = mount.daemon();
  const fs::path bound = directory / "bound";
  fs::create_directory(bound);
  SECTION("by an open file") {
    // As a terminal does it: every process of the group.
    const pid_t worker = mount.worker();
    pyram::UniqueFd file(::open((mount / "hello").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::kill(daemon, SIGTERM) == 0);
    REQUIRE(::kill(worker, SIGTERM) == 0);
    wait_until_unmounted(mount.path());
    REQUIRE(::kill(daemon, SIGTERM) == 0);
    CHECK(pyram::read_to_end(file.get(), "a file") == kText);
  }
  SECTION("by another directory") {
    REQUIRE(::mount(mount.path().c_str(), bound.c_str(), nullptr, MS_BIND, nullptr) == 0);
    REQUIRE(::kill(daemon, SIGTERM) == 0);
    wait_until_unmounted(mount.path());
    REQUIRE(::kill(daemon, SIGTERM) == 0);
    CHECK(pyram::read_file(bound / "hello") == kText);
    REQUIRE(::umount2(bound.c_str(), 0) == 0);
  }
  wait_for_end(daemon);
}

TEST_CASE("a limit of file sizes that is too small for the daemon is named") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  fs::create_directory(directory / "mount");
  const pyram::Outcome outcome = pyram::run(
      {.arguments = {"sh", "-c", "ulimit -f 1; exec \"$0\" \"$@\"", program("pyram-mount"),
                     image.native(), (directory / "mount").native()}});
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(pyram::ExitCode::kFailed));
  CHECK(outcome.errors.find("raise the limit of file sizes") != std::string::npos);
  CHECK_FALSE(is_mounted(directory / "mount"));
}

TEST_CASE("only its owner and root tell a daemon what to do") {
  if (!running_as_root()) PYRAM_SKIP("another user is for root to be");
  const TemporaryDirectory directory;
  const Mount mount(small_image(directory), {"-o", "allow_other"});
  // What the user gets, and root.
  const auto error_of = [&](unsigned long command, bool user) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      if (user && ::setresuid(kPlainUser, kPlainUser, kPlainUser) != 0) ::_exit(255);
      const int root = ::open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      std::array<char, pyram::kStatusSize> answer{};
      ::_exit(root >= 0 && ::ioctl(root, command, answer.data()) == 0 ? 0 : errno);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
  };
  CHECK(error_of(pyram::kStatusCommand, true) == 0);
  CHECK(error_of(pyram::kReloadCommand, true) == EPERM);
  CHECK(error_of(pyram::kQuiesceCommand, true) == EPERM);
  CHECK(error_of(pyram::kQuiesceCommand, false) == 0);
}

TEST_CASE("no descriptor is left where there are too few for fusermount3") {
  PYRAM_SKIP_WITH_SANITIZERS("they open pipes to check objects");
  if (!running_as_root()) PYRAM_SKIP("the limit would be the test's own");
  const TemporaryDirectory directory;
  fs::create_directory(directory / "mount");
  give_to_plain_user(directory / "mount");
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    constexpr int kFree = 3;  // For a pair of sockets, and not for a pipe.
    ::close_range(STDERR_FILENO + 1, ~0U, 0);
    constexpr rlimit limit{STDERR_FILENO + 1 + kFree, STDERR_FILENO + 1 + kFree};
    if (::setresuid(kPlainUser, kPlainUser, kPlainUser) != 0 ||
        ::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      ::_exit(1);
    }
    try {
      static_cast<void>(
          pyram::MountPoint::mount({.directory = directory / "mount", .source = "image"}));
      ::_exit(2);
    } catch (const pyram::Error& error) {
      if (error.error_number() != EMFILE) ::_exit(3);
    }
    for (int i = 0; i < kFree; ++i) {
      if (::fcntl(STDERR_FILENO + 1 + i, F_GETFD) >= 0) ::_exit(4);
    }
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
