// What a mount shows is what Linux's own squashfs shows of the same image.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "support/io.h"
#include "support/process.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::test::make_image;
using pyram::test::Mount;
using pyram::test::TemporaryDirectory;

namespace {

// The image, mounted by the kernel for as long as the object lives.
class KernelMount {
 public:
  KernelMount(const fs::path& image, const fs::path& directory) : directory_(directory) {
    fs::create_directory(directory);
    mounted_ = pyram::run({.arguments = {"mount", "-t", "squashfs", "-o", "loop,ro", image.native(),
                                         directory.native()}})
                   .ok();
  }
  ~KernelMount() {
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
  }
  KernelMount(const KernelMount&) = delete;
  KernelMount& operator=(const KernelMount&) = delete;
  [[nodiscard]] bool is_mounted() const { return mounted_; }

 private:
  const fs::path directory_;
  bool mounted_ = false;
};

struct stat status_of(const fs::path& path) {
  struct stat status {};
  INFO(path);
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status;
}

void write_at(const fs::path& path, off_t offset, const std::string& text, off_t size) {
  const pyram::UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  REQUIRE(::ftruncate(file.get(), size) == 0);
  REQUIRE(::pwrite(file.get(), text.data(), text.size(), offset) ==
          static_cast<ssize_t>(text.size()));
}

void set_time(const fs::path& path, std::int64_t seconds) {
  const timespec times[2] = {{seconds, 0}, {seconds, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

}  // namespace

TEST_CASE("times and the room that files take are those that the kernel's squashfs shows") {
  if (!pyram::test::running_as_root()) PYRAM_SKIP("only root mounts a squashfs");
  const TemporaryDirectory directory;
  const fs::path tree = directory / "tree";
  fs::create_directories(tree / "directory");
  constexpr off_t kHole = off_t{512} << 20;
  write_at(tree / "a hole", kHole - 7, "the end", kHole);
  write_at(tree / "a hole at the end", 0, "text", kHole + 1000);
  write_at(tree / "two holes", kHole / 2, std::string(300'000, 'x'), kHole);
  pyram::write_file(tree / "empty", "");
  pyram::write_file(tree / "one byte", "x");
  pyram::write_file(tree / "513 bytes", std::string(513, 'x'));
  fs::create_hard_link(tree / "513 bytes", tree / "directory/linked");
  fs::create_symlink("one byte", tree / "link");
  REQUIRE(::mkfifo((tree / "pipe").c_str(), 0600) == 0);
  // Before 1970, and what 32 bits can and can't say.
  const std::vector<std::int64_t> times = {-1, -86400 * 365, -2147483648,
                                           0,  2147483648,   4294967295};
  std::vector<fs::path> names = {
      "a hole",    "a hole at the end", "two holes", "empty", "one byte", "513 bytes",
      "directory", "directory/linked",  "link",      "pipe",  ""};
  for (const std::int64_t time : times) {
    names.push_back("time " + std::to_string(time));
    pyram::write_file(tree / names.back(), "text");
    set_time(tree / names.back(), time);
  }
  const fs::path image = make_image(tree, directory / "image");
  const KernelMount kernel(image, directory / "kernel");
  if (!kernel.is_mounted()) PYRAM_SKIP("the kernel mounts no squashfs here");
  const Mount mount(image);
  for (const fs::path& name : names) {
    INFO(name);
    const struct stat expected = status_of(directory / "kernel" / name);
    const struct stat found = status_of(mount / name.native());
    CHECK(found.st_mtim.tv_sec == expected.st_mtim.tv_sec);
    CHECK(found.st_atim.tv_sec == expected.st_atim.tv_sec);
    CHECK(found.st_ctim.tv_sec == expected.st_ctim.tv_sec);
    CHECK(found.st_blocks == expected.st_blocks);
    CHECK(found.st_size == expected.st_size);
    CHECK(found.st_nlink == expected.st_nlink);
    CHECK(found.st_ino == expected.st_ino);
    CHECK(found.st_mode == expected.st_mode);
  }
}
