// Mounting, serving and unmounting, and every way in which they are refused.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::ExitCode;
using pyram::Outcome;
using pyram::test::Mount;
using pyram::test::program;
using pyram::test::TemporaryDirectory;

namespace {

// Seconds: long enough for a busy machine to come to use a new mount before it is idle.
constexpr char kIdle[] = "3";
constexpr char kLonger[] = "5";

constexpr char kText[] = "hello from the image\n";

// An image with one small file.
fs::path small_image(const TemporaryDirectory& directory) {
  const fs::path tree = directory / "tree";
  fs::create_directories(tree);
  pyram::write_file(tree / "hello", kText);
  return pyram::test::make_image(tree, directory / "small.sqfs");
}

Outcome pyram_mount(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program("pyram-mount"));
  return pyram::run({.arguments = std::move(arguments)});
}

// One line on stderr with `words` in it, and that code.
void check_refused(const Outcome& outcome, ExitCode code, const std::string& words) {
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(code));
  CHECK(outcome.errors.starts_with("pyram-mount: "));
  CHECK(outcome.errors.find('\n') == outcome.errors.size() - 1);
  CHECK(outcome.errors.find(words) != std::string::npos);
}

}  // namespace

TEST_CASE("a mounted image can be read, and is gone after --unmount") {
  const TemporaryDirectory directory;
  Mount mount(small_image(directory));
  CHECK(pyram::read_file(mount / "hello") == kText);
  mount.unmount();
  CHECK_FALSE(pyram::test::is_mounted(mount.path()));
}

TEST_CASE("a plain user mounts by fusermount3") {
  const TemporaryDirectory directory;
  const Mount mount(small_image(directory), {}, Mount::By::kUser);
  const Outcome outcome =
      pyram::run(pyram::test::as_plain_user({"cat", (mount / "hello").native()}));
  CHECK(outcome.output == kText);
}

TEST_CASE("each ending signal unmounts and ends the daemon") {
  const int signal = GENERATE(SIGTERM, SIGINT, SIGHUP);
  const TemporaryDirectory directory;
  const Mount mount(small_image(directory));
  const pid_t daemon = mount.daemon();
  REQUIRE(::kill(daemon, signal) == 0);
  pyram::test::wait_for_end(daemon);
  CHECK_FALSE(pyram::test::is_mounted(mount.path()));
}

TEST_CASE("who has a file open when the daemon is told to end goes on reading it") {
  const TemporaryDirectory directory;
  const Mount mount(small_image(directory));
  const pid_t daemon = mount.daemon();
  {
    const pyram::UniqueFd file(::open((mount / "hello").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(file);
    CHECK_FALSE(pyram_mount({"--unmount", mount.path().native()}).ok());
    CHECK(pyram::test::is_mounted(mount.path()));
    REQUIRE(::kill(daemon, SIGTERM) == 0);
    CHECK(pyram::read_to_end(file.get(), "the open file") == kText);
  }
  pyram::test::wait_for_end(daemon);
  CHECK_FALSE(pyram::test::is_mounted(mount.path()));
}

TEST_CASE("in the foreground --ready-fd says when it serves") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  const Outcome outcome = pyram::run(
      {.arguments = {"sh", "-c",
                     "exec 4>&1; \"$0\" -f --ready-fd 4 \"$1\" \"$2\" > /dev/null & "
                     "exec 4>&-; wait",
                     program("pyram-mount"), image.native(), (directory / "missing").native()}});
  CHECK(outcome.output.starts_with("-cannot mount on"));
}

TEST_CASE("what cannot be mounted is refused with one line and a documented code") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const fs::path point = directory / "mount";
  fs::create_directory(point);

  SECTION("no image") {
    check_refused(pyram_mount({(directory / "none").native(), point.native()}), ExitCode::kBadImage,
                  "No such file");
  }
  SECTION("a directory as image") {
    check_refused(pyram_mount({(directory / "tree").native(), point.native()}), ExitCode::kBadImage,
                  "it is not a file");
  }
  SECTION("no SquashFS") {
    check_refused(pyram_mount({(directory / "tree/hello").native(), point.native()}),
                  ExitCode::kBadImage, "it is not a SquashFS");
  }
  SECTION("an empty file") {
    std::ofstream(directory / "empty").flush();
    check_refused(pyram_mount({(directory / "empty").native(), point.native()}),
                  ExitCode::kBadImage, "it is not a SquashFS");
  }
  SECTION("a truncated image") {
    const fs::path cut = directory / "cut.sqfs";
    fs::copy(image, cut);
    // mksquashfs pads to 4 KiB; the SquashFS itself has to lose a byte.
    fs::resize_file(cut, 200);
    check_refused(pyram_mount({cut.native(), point.native()}), ExitCode::kBadImage,
                  "it is truncated");
  }
  SECTION("a false offset") {
    check_refused(pyram_mount({"-o", "offset=100000000", image.native(), point.native()}),
                  ExitCode::kBadImage, "it is not a SquashFS");
  }
  SECTION("no mount point") {
    check_refused(pyram_mount({image.native(), (directory / "missing").native()}),
                  ExitCode::kBadMountPoint, "it does not exist");
  }
  SECTION("a file as mount point") {
    check_refused(pyram_mount({image.native(), image.native()}), ExitCode::kBadMountPoint,
                  "it is not a directory");
  }
  SECTION("a mount point with files in it") {
    check_refused(pyram_mount({image.native(), (directory / "tree").native()}),
                  ExitCode::kBadMountPoint, "it is not empty");
  }
  SECTION("a mount point in use") {
    const Mount mount(image);
    check_refused(pyram_mount({image.native(), mount.path().native()}), ExitCode::kBadMountPoint,
                  "mounted there already");
  }
  SECTION("options that make no sense") {
    for (const std::vector<std::string>& words :
         std::vector<std::vector<std::string>>{{"--cache-size", "0"},
                                               {"--threads", "0"},
                                               {"--prefetch", "warm"},
                                               {"--no-such-option"},
                                               {"-o", "offset=12x"},
                                               {"-o", "uid=4294967295"},
                                               {"-o", "no_such_option"},
                                               {"-o", "allow_other,allow_root"}}) {
      std::vector<std::string> arguments = words;
      arguments.insert(arguments.end(), {image.native(), point.native()});
      check_refused(pyram_mount(std::move(arguments)), ExitCode::kUsage, "pyram-mount --help");
    }
    check_refused(pyram_mount({image.native()}), ExitCode::kUsage, "are needed");
  }
  SECTION("nothing to unmount") {
    check_refused(pyram_mount({"--unmount", point.native()}), ExitCode::kBadMountPoint,
                  "no image is mounted there");
  }
  SECTION("no status to show") {
    check_refused(pyram_mount({"--status", point.native()}), ExitCode::kBadMountPoint,
                  "no image is mounted there");
  }
  CHECK_FALSE(pyram::test::is_mounted(point));
}

TEST_CASE("an image anywhere in a file is mounted by -o offset") {
  const TemporaryDirectory directory;
  const std::string image = pyram::read_file(small_image(directory));
  pyram::write_file(directory / "inside", std::string(5000, 'x') + image);
  const Mount mount(directory / "inside", {"-o", "offset=5000"});
  CHECK(pyram::read_file(mount / "hello") == kText);
}

TEST_CASE("options uid and gid give everything to one owner") {
  const TemporaryDirectory directory;
  const Mount mount(small_image(directory), {"-o", "uid=1234,gid=4321"});
  struct stat status {};
  REQUIRE(::stat((mount / "hello").c_str(), &status) == 0);
  CHECK(status.st_uid == 1234);
  CHECK(status.st_gid == 4321);
}

TEST_CASE("notify_pipe gets squashfuse's letter") {
  const TemporaryDirectory directory;
  const fs::path pipe = directory / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const pyram::UniqueFd reader(::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const fs::path image = small_image(directory);
  char letter = 0;
  SECTION("mounted") {
    const Mount mount(image, {"-o", "notify_pipe=" + pipe.native()});
    REQUIRE(::read(reader.get(), &letter, 1) == 1);
    CHECK(letter == 's');
  }
  SECTION("refused") {
    CHECK_FALSE(pyram_mount({"-o", "notify_pipe=" + pipe.native(), image.native(),
                             (directory / "missing").native()})
                    .ok());
    REQUIRE(::read(reader.get(), &letter, 1) == 1);
    CHECK(letter == 'f');
  }
}

TEST_CASE("a dead daemon's mount is replaced") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const Mount mount(image);
  pyram::test::kill_daemon(mount);
  struct statfs status {};
  CHECK(::statfs(mount.path().c_str(), &status) != 0);
  CHECK(errno == ENOTCONN);
  REQUIRE(pyram_mount({image.native(), mount.path().native()}).ok());
  CHECK(pyram::read_file(mount / "hello") == kText);
}

TEST_CASE("an idle mount goes, but not while somebody is in it") {
  const TemporaryDirectory directory;
  const auto by = GENERATE(Mount::By::kUs, Mount::By::kUser);
  const Mount mount(small_image(directory), {"--idle-timeout", kIdle}, by);
  // The shell holds the directory for longer than that; then we see that it is still there.
  std::vector<std::string> words = {"sh", "-c", "cd \"$0\" && sleep \"$1\" && cat hello",
                                    mount.path().native(), kLonger};
  const Outcome outcome = pyram::run(by == Mount::By::kUs ? pyram::Command{.arguments = words}
                                                          : pyram::test::as_plain_user(words));
  CHECK(outcome.output == kText);
  if (by == Mount::By::kUs) {
    pyram::test::wait_for_end(mount.daemon());
    CHECK_FALSE(pyram::test::is_mounted(mount.path()));
  }
}

TEST_CASE("an idle mount stays while a file of it is mapped or run") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  fs::copy_file("/bin/sleep", directory / "tree/sleep");
  const Mount mount(small_image(directory), {"--idle-timeout", kIdle});
  SECTION("mapped") {
    pyram::UniqueFd file(::open((mount / "hello").c_str(), O_RDONLY | O_CLOEXEC));
    void* const mapped = ::mmap(nullptr, sizeof(kText), PROT_READ, MAP_PRIVATE, file.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    file.reset();
    REQUIRE(pyram::run({.arguments = {"sleep", kLonger}}).ok());
    CHECK(pyram::read_file(mount / "hello") == kText);
    ::munmap(mapped, sizeof(kText));
  }
  SECTION("run") {
    REQUIRE(pyram::run({.arguments = {mount / "sleep", kLonger}}).ok());
    CHECK(pyram::read_file(mount / "hello") == kText);
  }
  pyram::test::wait_for_end(mount.daemon());
  CHECK_FALSE(pyram::test::is_mounted(mount.path()));
}

TEST_CASE("a status in each format") {
  const TemporaryDirectory directory;
  const Mount mount(small_image(directory));
  CHECK(pyram::read_file(mount / "hello") == kText);
  CHECK(mount.count("requests_read") == 1);
  CHECK(mount.count("served_bytes") == sizeof(kText) - 1);
  const std::string point = mount.path().native();
  const Outcome text = pyram_mount({"--status", "--all", point});
  CHECK(text.output.find("requests read              1\n") != std::string::npos);
  CHECK(pyram_mount({"--status", "--format", "text", point}).output.starts_with("version "));
  const Outcome summary = pyram_mount({"--status", point});
  INFO(summary.output);
  CHECK(summary.output.starts_with(point + ": serves "));
  CHECK(summary.output.find("\n  read ahead  ") != std::string::npos);
  CHECK(summary.output.find("\n  trouble     none\n") != std::string::npos);
  // Where the kernel's own count can be seen.
  if (pyram::test::running_as_root() && fs::exists("/sys/fs/fuse/connections")) {
    const Outcome waiting = pyram::run(
        {.arguments = {
             "unshare", "--mount", "sh", "-c",
             "mount -t fusectl none /sys/fs/fuse/connections && exec \"$0\" --status \"$1\"",
             program("pyram-mount"), point}});
    INFO(waiting.output << waiting.errors);
    CHECK(waiting.output.find("\n  waiting     nobody\n") != std::string::npos);
  }
  const Outcome prometheus =
      pyram_mount({"--status", "--format", "prometheus", mount.path().native()});
  CHECK(prometheus.output.find("pyram_requests_total{mount=\"" + mount.path().native() +
                               "\",kind=\"read\"} 1\n") != std::string::npos);
}

TEST_CASE("mount(8)'s helper form") {
  if (!pyram::test::running_as_root()) PYRAM_SKIP("mount(8) is for root");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  const fs::path helper = directory / "mount.fuse.pyram";
  fs::create_symlink(program("pyram-mount"), helper);
  const std::vector<std::string> words = {helper.native(),
                                          image.native(),
                                          point.native(),
                                          "-s",
                                          "-o",
                                          "rw,nofail,allow_other,x-systemd.automount"};
  REQUIRE(pyram::run({.arguments = words}).ok());
  CHECK(pyram::read_file(point / "hello") == kText);
  CHECK(pyram_mount({"--unmount", point.native()}).ok());
}
