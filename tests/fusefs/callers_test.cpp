// What programs that start squashfuse_ll rely on: the image as a descriptor, the word through a
// pipe, and that a mount which can be seen is one that serves.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "support/child.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::ExitCode;
using pyram::Outcome;
using namespace pyram::test;

namespace {

constexpr char kText[] = "hello from the image\n";

// An image with one small file in a directory.
fs::path small_image(const TemporaryDirectory& directory) {
  fs::create_directories(directory / "tree/sub/deep");
  pyram::write_file(directory / "tree/hello", kText);
  pyram::write_file(directory / "tree/sub/inner", kText);
  return make_image(directory / "tree", directory / "small.sqfs");
}

Outcome pyram_mount(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program("pyram-mount"));
  return pyram::run({.arguments = std::move(arguments)});
}

// A copy of the image in memory, without a name.
pyram::UniqueFd in_memory(const std::string& bytes) {
  pyram::UniqueFd file(::memfd_create("image", 0));
  REQUIRE(file);
  pyram::write_full(file.get(), bytes, "the image");
  return file;
}

// A daemon in the foreground that has `file` as its descriptor 3, and says on 4 when it serves.
class DescriptorMount {
 public:
  DescriptorMount(int file, const std::string& image, const fs::path& directory,
                  const std::string& options)
      : directory_(directory) {
    constexpr int kImage = 3;
    constexpr int kReady = 4;
    fs::create_directory(directory);
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const pyram::UniqueFd ready(ends[0]);
    pyram::UniqueFd tell(ends[1]);
    daemon_.emplace(pyram::Child::start(
        {.arguments = {program("pyram-mount"), "-f", "--ready-fd", std::to_string(kReady), "-o",
                       options, image, directory.native()},
         .descriptors = {{file, kImage}, {tell.get(), kReady}}}));
    tell.reset();
    const std::string said = pyram::read_to_end(ready.get(), "the pipe");
    INFO(said);
    REQUIRE(said == "+");
  }
  ~DescriptorMount() { pyram_mount({"--unmount", directory_.native()}); }
  DescriptorMount(const DescriptorMount&) = delete;
  DescriptorMount& operator=(const DescriptorMount&) = delete;

 private:
  fs::path directory_;
  std::optional<pyram::Child> daemon_;
};

pid_t worker_of(const fs::path& directory) {
  const std::string status =
      pyram_mount({"--status", "--format", "prometheus", directory.native()}).output;
  const std::size_t at = status.find("pyram_worker_pid{");
  REQUIRE(at != std::string::npos);
  return std::stoi(status.substr(status.find("} ", at) + 2));
}

}  // namespace

TEST_CASE("an image that is a descriptor is served, by later workers too") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const std::string name = GENERATE("/proc/self/fd/3", "/dev/fd/3");
  constexpr std::size_t kOffset = 4096;
  const bool in_ram = GENERATE(true, false);
  pyram::UniqueFd file;
  if (in_ram) {
    file = in_memory(std::string(kOffset, 'x') + pyram::read_file(image));
  } else {
    pyram::write_file(directory / "gone", std::string(kOffset, 'x') + pyram::read_file(image));
    file.reset(::open((directory / "gone").c_str(), O_RDONLY | O_CLOEXEC));
    fs::remove(directory / "gone");
  }
  const fs::path point = directory / "mount";
  const DescriptorMount mount(file.get(), name, point,
                              "uid=1001,gid=1002,offset=" + std::to_string(kOffset));
  file.reset();
  struct stat status {};
  REQUIRE(::stat((point / "hello").c_str(), &status) == 0);
  CHECK(status.st_uid == 1001);
  CHECK(status.st_gid == 1002);

  const pid_t worker = worker_of(point);
  REQUIRE(::kill(worker, SIGKILL) == 0);
  wait_for_end(worker);
  CHECK(pyram::read_file(point / "hello") == kText);
  CHECK(pyram_mount({"--reload", point.native()}).ok());
  CHECK(pyram::read_file(point / "sub/inner") == kText);
  // What is shown leads to no other file.
  const std::string shown = pyram_mount({"--status", point.native()}).output;
  INFO(shown);
  CHECK(shown.find(in_ram ? "/memfd:image (deleted)" : "/gone (deleted)") != std::string::npos);
}

TEST_CASE("a descriptor is served although its file may not be opened any more") {
  if (!running_as_root()) PYRAM_SKIP("becomes another user");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  fs::permissions(image, fs::perms::owner_read);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  give_to_plain_user(point);
  const std::vector<std::string> words =
      as_plain_user({program("pyram-mount"), "/proc/self/fd/3", point.native()}).arguments;
  const pyram::UniqueFd file(::open(image.c_str(), O_RDONLY | O_CLOEXEC));
  pyram::Child child = pyram::Child::start({.arguments = words,
                                            .path = pyram::find_program(words.front()).value(),
                                            .descriptors = {{file.get(), 3}}});
  REQUIRE(child.wait() == 0);
  CHECK(pyram::run(as_plain_user({"cat", (point / "hello").native()})).output == kText);
  CHECK(pyram::run(as_plain_user({program("pyram-mount"), "--unmount", point.native()})).ok());
}

TEST_CASE("the word through notify_pipe waits for a reader") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const fs::path pipe = directory / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  // Opened for reading only when pyram-mount has returned.
  SECTION("mounted") {
    Mount mount(image, {"-o", "notify_pipe=" + pipe.native()});
    CHECK(pyram::read_file(pipe) == "s");
    mount.unmount();
  }
  SECTION("refused") {
    CHECK_FALSE(pyram_mount({"-o", "notify_pipe=" + pipe.native(), image.native(),
                             (directory / "missing").native()})
                    .ok());
    CHECK(pyram::read_file(pipe) == "f");
  }
  SECTION("nobody ever reads: what waits ends with the mount") {
    Mount mount(image, {"-o", "notify_pipe=" + pipe.native()});
    const std::string daemon = std::to_string(mount.daemon());
    const std::string worker = std::to_string(mount.worker());
    pid_t waiting = 0;
    for (const std::string text =
             pyram::read_file("/proc/" + daemon + "/task/" + daemon + "/children");
         const std::string& word :
         {text.substr(0, text.find(' ')), text.substr(std::min(text.find(' ') + 1, text.size()))}) {
      if (!word.empty() && !word.starts_with(worker)) waiting = std::stoi(word);
    }
    REQUIRE(waiting > 0);
    mount.unmount();
    wait_for_end(waiting);
  }
}

TEST_CASE("a bad image is never mounted, not even for a moment") {
  if (!running_as_root()) PYRAM_SKIP("makes a mount namespace");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  std::string bytes = pyram::read_file(image);
  // The superblock is in order, but its root inode lies elsewhere.
  constexpr std::size_t kRootInode = 32;
  bytes.at(kRootInode) = static_cast<char>(bytes.at(kRootInode) + 1);
  pyram::write_file(image, bytes);
  fs::create_directory(directory / "mount");
  // In a namespace of its own, where nobody else changes the mount table.
  constexpr int kChanged = 100;
  const int code =
      pyram::Child::fork("watch the mount table", [&] {
        if (::unshare(CLONE_NEWNS) != 0 ||
            ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
          return 1;
        }
        const pyram::UniqueFd table(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
        const int status = pyram_mount({image.native(), (directory / "mount").native()}).status;
        pollfd changed{table.get(), POLLPRI, 0};
        return ::poll(&changed, 1, 0) == 0 ? status : kChanged;
      }).wait();
  CHECK(code == static_cast<int>(ExitCode::kBadImage));
}

TEST_CASE("a subdirectory can be all of a mount") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  SECTION("shown, and nothing outside it") {
    const std::string path = GENERATE("sub", "/sub/");
    const Mount mount(image, {"-o", "subdir=" + path});
    CHECK(pyram::read_file(mount / "inner") == kText);
    CHECK_FALSE(fs::exists(mount / "hello"));
    const pid_t worker = mount.worker();
    REQUIRE(::kill(worker, SIGKILL) == 0);
    wait_for_end(worker);
    CHECK(pyram::read_file(mount / "deep/../inner") == kText);
    CHECK_FALSE(fs::exists(mount / "hello"));
  }
  SECTION("missing, or no directory") {
    const std::string path = GENERATE("missing", "hello", "hello/sub", "sub/..");
    fs::create_directory(directory / "mount");
    const Outcome outcome =
        pyram_mount({"-o", "subdir=" + path, image.native(), (directory / "mount").native()});
    INFO(outcome.errors);
    CHECK(outcome.status == static_cast<int>(ExitCode::kBadImage));
    CHECK(outcome.errors.find("cannot show '" + path + "'") != std::string::npos);
    CHECK_FALSE(is_mounted(directory / "mount"));
  }
}

TEST_CASE("options dev and suid are root's") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  SECTION("honoured") {
    if (!running_as_root()) PYRAM_SKIP("only root may");
    struct Case {
      const char* options;
      unsigned long flags;
    };
    const Case wanted = GENERATE(Case{"ro", ST_NODEV | ST_NOSUID}, Case{"dev,suid", 0},
                                 Case{"suid", ST_NODEV}, Case{"dev,suid,nodev", ST_NODEV});
    const Mount mount(image, {"-o", wanted.options});
    struct statvfs status {};
    REQUIRE(::statvfs(mount.path().c_str(), &status) == 0);
    CHECK((status.f_flag & (ST_NODEV | ST_NOSUID)) == wanted.flags);
  }
  SECTION("refused") {
    const std::string option = GENERATE("dev", "suid");
    const Outcome outcome = pyram::run(as_plain_user(
        {program("pyram-mount"), "-o", option, image.native(), directory.path().native()}));
    CHECK(outcome.status == static_cast<int>(ExitCode::kUsage));
    CHECK(outcome.errors.find("for root only") != std::string::npos);
  }
}

TEST_CASE("without arguments callers find the version and what -o takes") {
  const Outcome outcome = pyram_mount({});
  CHECK(outcome.status == static_cast<int>(ExitCode::kUsage));
  CHECK(outcome.output.empty());
  CHECK(outcome.errors.starts_with("pyram-mount " PYRAM_VERSION "\n"));
  CHECK(outcome.errors.find("\nUsage: ") != std::string::npos);
  for (const char* option : {"-o uid=N", "-o gid=N", "-o offset=", "-o subdir="}) {
    CHECK(outcome.errors.find(option) != std::string::npos);
  }
}

TEST_CASE("a mount point may be an open /dev/fuse that the caller mounted") {
  if (!running_as_root()) PYRAM_SKIP("mounts by itself");
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  constexpr int kDevice = 5;
  SECTION("served") {
    pyram::UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    const std::string data =
        "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0";
    REQUIRE(::mount("image", point.c_str(), "fuse", MS_RDONLY | MS_NOSUID | MS_NODEV,
                    data.c_str()) == 0);
    pyram::Child daemon =
        pyram::Child::start({.arguments = {program("pyram-mount"), "-f", image.native(),
                                           "/dev/fd/" + std::to_string(kDevice)},
                             .descriptors = {{device.get(), kDevice}}});
    device.reset();
    CHECK(pyram::read_file(point / "hello") == kText);
    SECTION("until it is unmounted") {
      REQUIRE(::umount2(point.c_str(), 0) == 0);
      CHECK(daemon.wait() == 0);
    }
    SECTION("until the daemon is told to end") {
      const pid_t worker = worker_of(point);
      REQUIRE(::kill(worker, SIGKILL) == 0);
      wait_for_end(worker);
      CHECK(pyram::read_file(point / "sub/inner") == kText);
      daemon.signal(SIGTERM);
      CHECK(daemon.wait() == 0);
      CHECK(is_mounted(point));  // What the caller mounted is the caller's to unmount.
      REQUIRE(::umount2(point.c_str(), MNT_DETACH) == 0);
    }
  }
  SECTION("refused") {
    const pyram::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    pyram::Program other{.arguments = {program("pyram-mount"), "-f", image.native(),
                                       "/dev/fd/" + std::to_string(kDevice)}};
    if (GENERATE(true, false)) other.descriptors = {{null.get(), kDevice}};
    CHECK(pyram::Child::start(other).wait() == static_cast<int>(ExitCode::kBadMountPoint));
  }
}

TEST_CASE("what is extracted can be entered whatever the umask is") {
  const TemporaryDirectory directory;
  const fs::path image = small_image(directory);
  const Outcome outcome =
      pyram::run(as_plain_user({"sh", "-c", "umask 0777; exec \"$@\"", "sh", program("pyram-mount"),
                                "--extract", image.native(), (directory / "out/new").native()}));
  CHECK_FALSE(outcome.ok());  // Its parent is missing: nothing is made.
  fs::create_directory(directory / "out");
  give_to_plain_user(directory / "out");
  const Outcome second =
      pyram::run(as_plain_user({"sh", "-c", "umask 0777; exec \"$@\"", "sh", program("pyram-mount"),
                                "--extract", image.native(), (directory / "out/new").native()}));
  INFO(second.errors);
  CHECK(second.ok());
  CHECK(pyram::read_file(directory / "out/new/sub/inner") == kText);
}
