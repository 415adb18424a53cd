// Faults from outside: readers that are killed, images that change, many mounts, other users.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "support/io.h"
#include "support/pipe.h"
#include "tests/reliability/readers.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::Outcome;
using namespace pyram::test;

namespace {

constexpr std::size_t kFileSize = std::size_t{1} << 20;

fs::path image_of_files(const TemporaryDirectory& directory) {
  make_files(directory / "tree", 8, kFileSize);
  return make_image(directory / "tree", directory / "files.sqfs");
}

void forget_pages(const fs::path& file) {
  const pyram::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(fd);
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

// Processes whose command line has `word` in it.
std::set<pid_t> processes_with(const std::string& word) {
  std::set<pid_t> result;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "cmdline");
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    if (line.find(word) != std::string::npos) result.insert(std::stoi(name));
  }
  return result;
}

}  // namespace

TEST_CASE("mounting and unmounting many times leaves nothing behind") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  const int times = 100 * length_factor();
  for (int i = 0; i < times; ++i) {
    std::vector<std::string> words = {program("pyram-mount"), image.native(), point.native()};
    // What others may use is registered; only root may offer it everywhere.
    if (pyram::test::running_as_root()) words.insert(words.begin() + 1, {"-o", "allow_other"});
    const Outcome outcome = pyram::run({.arguments = words});
    INFO(i << ": " << outcome.errors);
    REQUIRE(outcome.ok());
    REQUIRE(fs::exists(point / "file-0"));
    REQUIRE(pyram::run({.arguments = {program("pyram-mount"), "--unmount", point.native()}}).ok());
  }
  CHECK_FALSE(pyram::test::is_mounted(point));
  // The last ones may still be ending; then they are waited for.
  for (const pid_t process : processes_with(point.native())) wait_for_end(process);
  CHECK(processes_with(point.native()).empty());
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory.path())) {
    names.insert(entry.path().filename());
  }
  CHECK(names == std::set<std::string>{"tree", "files.sqfs", "mount"});
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/run/pyram/by-image", none)) {
    CHECK(fs::read_symlink(entry.path()) != point);
  }
}

TEST_CASE("a daemon holds as many descriptors after many reads and crashes as before") {
  const TemporaryDirectory directory;
  // Only root may look into a confined process.
  const Mount mount(image_of_files(directory), {"-o", "noconfine"});
  const auto descriptors = [](pid_t process) {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         fs::directory_iterator("/proc/" + std::to_string(process) + "/fd")) {
      ++count;
    }
    return count;
  };
  const pid_t daemon = mount.daemon();
  const std::size_t of_daemon = descriptors(daemon);
  for (int i = 0; i < 4; ++i) {
    const pid_t worker = mount.worker();
    REQUIRE(::kill(worker, SIGKILL) == 0);
    wait_for_end(worker);
    CHECK(error_of_reading(mount / ("file-" + std::to_string(i))) == 0);
  }
  const std::size_t of_worker = descriptors(mount.worker());
  Readers readers(directory / "tree", mount.path(), 4);
  readers.wait_for_reads(500);
  readers.stop();
  CHECK(descriptors(daemon) == of_daemon);
  CHECK(descriptors(mount.worker()) == of_worker);
}

TEST_CASE("readers that are killed in the middle of a read disturb nobody") {
  const TemporaryDirectory directory;
  Mount mount(image_of_files(directory));
  const fs::path file = mount / "file-1";
  for (int i = 0; i < 30; ++i) {
    auto [output, input] = pyram::make_pipe();
    const pid_t reader = ::fork();
    if (reader == 0) {
      std::array<char, 4096> page;
      const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
      [[maybe_unused]] const ssize_t told = ::write(input.get(), "x", 1);
      for (;;) {
        ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        [[maybe_unused]] const ssize_t got = ::pread(fd, page.data(), page.size(), 0);
      }
    }
    input.reset();
    char byte = 0;
    REQUIRE(::read(output.get(), &byte, 1) == 1);
    REQUIRE(::kill(reader, SIGKILL) == 0);
    REQUIRE(::waitpid(reader, nullptr, 0) == reader);
  }
  forget_pages(file);
  CHECK(pyram::read_file(file) == pyram::read_file(directory / "tree/file-1"));
  mount.unmount();
}

TEST_CASE("a mount that took the place of ours is left to whoever made it") {
  if (!running_as_root()) PYRAM_SKIP("only root unmounts what another process mounted");
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const Mount mount(image);
  const auto device = [&] {
    struct stat status {};
    REQUIRE(::stat(mount.path().c_str(), &status) == 0);
    return status.st_dev;
  };
  const dev_t before = device();
  const pid_t daemon = mount.daemon();
  // It learns of nothing until all has happened.
  REQUIRE(::kill(daemon, SIGSTOP) == 0);
  REQUIRE(::umount2(mount.path().c_str(), 0) == 0);
  REQUIRE(pyram::run({.arguments = {program("pyram-mount"), image.native(), mount.path().native()}})
              .ok());
  // The kernel gives the number out again, or there would be nothing to mistake.
  const bool same_number = device() == before;
  REQUIRE(::kill(daemon, SIGTERM) == 0);
  REQUIRE(::kill(daemon, SIGCONT) == 0);
  wait_for_end(daemon);
  CHECK(is_mounted(mount.path()));
  CHECK(pyram::read_file(mount / "file-0") == pyram::read_file(directory / "tree/file-0"));
  if (!same_number) PYRAM_SKIP("the kernel gave the new mount another number");
}

TEST_CASE("a supervisor that was stopped holds nobody up, and goes on") {
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory));
  const pid_t daemon = mount.daemon();
  const pid_t worker = mount.worker();
  Readers readers(directory / "tree", mount.path(), 4);
  REQUIRE(::kill(daemon, SIGSTOP) == 0);
  readers.wait_for_reads(500);
  // A worker that dies meanwhile is replaced as soon as there is somebody to do it.
  REQUIRE(::kill(worker, SIGKILL) == 0);
  REQUIRE(::kill(daemon, SIGCONT) == 0);
  readers.wait_for_reads(500);
  readers.stop();
  CHECK(readers.differences() == 0);
  CHECK(readers.errors() + readers.other_errors() == 0);
  CHECK(mount.count("worker_restarts") == 1);
}

TEST_CASE("a mount for everybody is made where nothing can be written to /run") {
  if (!running_as_root()) PYRAM_SKIP("a mount for everybody is root's");
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  fs::create_directory(directory / "mount");
  // One inode, its root: no directory and no link can be made.
  const Outcome outcome = pyram::run(
      {.arguments = {"unshare", "--mount", "--propagation", "private", "sh", "-ec",
                     "mount -t tmpfs -o nr_inodes=1 none /run\n"
                     "! mkdir /run/pyram 2>/dev/null\n"
                     "\"$1\" -o allow_other \"$2\" \"$3/mount\"\n"
                     "cmp \"$3/mount/file-0\" \"$3/tree/file-0\"\n"
                     "\"$1\" --unmount \"$3/mount\"\n",
                     "sh", program("pyram-mount"), image.native(), directory.path().native()}});
  INFO(outcome.errors);
  CHECK(outcome.ok());
}

TEST_CASE("an image that is deleted or replaced while mounted is served as it was") {
  const bool replaced = GENERATE(false, true);
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const Mount mount(image);
  if (replaced) {
    pyram::write_file(directory / "other", "not an image");
    fs::rename(directory / "other", image);
  } else {
    fs::remove(image);
  }
  CHECK(pyram::read_file(mount / "file-0") == pyram::read_file(directory / "tree/file-0"));
  // Also by a worker that was not there before, or that is another program.
  const pid_t worker = mount.worker();
  REQUIRE(::kill(worker, SIGKILL) == 0);
  wait_for_end(worker);
  CHECK(pyram::read_file(mount / "file-1") == pyram::read_file(directory / "tree/file-1"));
  CHECK(
      pyram::run({.arguments = {program("pyram-mount"), "--reload", mount.path().native()}}).ok());
  CHECK(pyram::read_file(mount / "file-2") == pyram::read_file(directory / "tree/file-2"));
}

TEST_CASE(
    "of an image that is truncated while mounted, what is gone is an error, the rest is there") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const Mount mount(image);
  // The tables lie at the end and are known by now; then half of the files' data goes.
  for (int i = 0; i < 8; ++i) {
    REQUIRE(fs::file_size(mount / ("file-" + std::to_string(i))) == kFileSize);
  }
  fs::resize_file(image, fs::file_size(image) / 2);
  int whole = 0;
  int failed = 0;
  for (int i = 0; i < 8; ++i) {
    const std::string name = "file-" + std::to_string(i);
    const int error = error_of_reading(mount / name);
    if (error == 0) {
      CHECK(pyram::read_file(mount / name) == pyram::read_file(directory / "tree" / name));
      ++whole;
    } else {
      CHECK(error == EIO);
      ++failed;
    }
  }
  CHECK(whole > 0);
  CHECK(failed > 0);
  CHECK(mount.count("worker_restarts") == 0);
}

TEST_CASE("nobody but its owner reads, ends or reloads a user's mount") {
  if (!running_as_root()) PYRAM_SKIP("two users are needed, and only root can be both");
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory), {}, Mount::By::kUser);
  const auto as_other = [](std::vector<std::string> words) {
    const std::string id = std::to_string(kOtherUser);
    words.insert(words.begin(), {"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups",
                                 "--inh-caps=-all", "--"});
    return pyram::run({.arguments = std::move(words)});
  };
  CHECK_FALSE(as_other({"cat", (mount / "file-0").native()}).ok());
  CHECK_FALSE(as_other({"ls", mount.path().native()}).ok());
  for (const char* option : {"--status", "--reload", "--unmount"}) {
    const Outcome outcome = as_other({program("pyram-mount"), option, mount.path().native()});
    INFO(option << ' ' << outcome.output << outcome.errors);
    CHECK_FALSE(outcome.ok());
  }
  for (const pid_t process : {mount.daemon(), mount.worker()}) {
    CHECK_FALSE(as_other({"sh", "-c", "kill -9 " + std::to_string(process)}).ok());
  }
  // Not even root, who didn't mount it: so it is FUSE that keeps him out, and not the directory's
  // mode.
  CHECK(error_of_reading(mount / "file-0") == EACCES);
  CHECK(pyram::run(as_plain_user({"cat", (mount / "file-0").native()})).ok());
}

TEST_CASE("a mount for everybody is read by everybody, and reloaded by its owner only") {
  if (!running_as_root()) PYRAM_SKIP("a mount for everybody is root's");
  const TemporaryDirectory directory;
  const Mount mount(image_of_files(directory), {"-o", "allow_other"});
  const std::string point = mount.path().native();
  CHECK(pyram::run(as_plain_user({"cmp", point + "/file-0", (directory / "tree/file-0").native()}))
            .ok());
  CHECK(pyram::run(as_plain_user({program("pyram-mount"), "--status", point})).ok());
  const Outcome refused = pyram::run(as_plain_user({program("pyram-mount"), "--reload", point}));
  CHECK_FALSE(refused.ok());
  CHECK(refused.errors.find("only the user who mounted it and root may") != std::string::npos);
  CHECK(pyram::run({.arguments = {program("pyram-mount"), "--reload", point}}).ok());
}

TEST_CASE("a mounted image that is overwritten is told of once, with what to do") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const fs::path point = directory / "mount";
  const fs::path log = directory / "log";
  fs::create_directory(point);
  const pid_t daemon = serve_in_foreground(image, point, log, {"--prefetch", "none"});
  CHECK(error_of_reading(point / "file-0") == 0);
  // As cp does: the same file, with another content. Shorter: reads run into its end.
  pyram::write_file(directory / "other", std::string(4096, 'x'));
  REQUIRE(pyram::run({.arguments = {"cp", (directory / "other").native(), image.native()}}).ok());
  CHECK(error_of_reading(point / "file-3") == EIO);
  CHECK(error_of_reading(point / "file-4") == EIO);
  CHECK(pyram::run({.arguments = {program("pyram-mount"), "--unmount", point.native()}}).ok());
  wait_for_end(daemon);
  const std::string said = pyram::read_file(log);
  INFO(said);
  const std::string line = "the image '" + image.native() + "' was overwritten while it is mounted";
  const std::size_t first = said.find(line);
  CHECK(first != std::string::npos);
  CHECK(said.find(line, first + 1) == std::string::npos);
  CHECK(said.find("systemctl restart pyram-mount@NAME") != std::string::npos);
}
