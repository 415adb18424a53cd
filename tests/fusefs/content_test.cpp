// What comes out of a mount is what went into the image: bytes, modes, times, links.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::test::Mount;
using pyram::test::TemporaryDirectory;

namespace {

// Bytes that compress, but not to nothing, and differ from one seed to the next.
std::string some_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>('a' + random() % 20);
  return bytes;
}

// A tree of everything that an image can have and any user can make.
void make_tree(const fs::path& tree) {
  constexpr std::size_t kBlock = 131072;
  fs::create_directories(tree / "directory/below/deeper");
  pyram::write_file(tree / "empty", "");
  pyram::write_file(tree / "small", "small\n");
  pyram::write_file(tree / "one block", some_bytes(kBlock, 1));
  pyram::write_file(tree / "one block and a byte", some_bytes(kBlock + 1, 2));
  pyram::write_file(tree / "one block less a byte", some_bytes(kBlock - 1, 3));
  pyram::write_file(tree / "many blocks", some_bytes(20 * kBlock + 777, 4));
  for (unsigned i = 0; i < 40; ++i) {
    pyram::write_file(tree / "directory" / ("fragment " + std::to_string(i)),
                      some_bytes(1000 + i, 100 + i));
  }
  {
    const pyram::UniqueFd sparse(
        ::open((tree / "sparse").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0640));
    REQUIRE(::pwrite(sparse.get(), "here", 4, 5 * kBlock + 3) == 4);
    REQUIRE(::ftruncate(sparse.get(), 12 * kBlock + 5) == 0);
  }
  fs::create_hard_link(tree / "small", tree / "directory/hard link");
  fs::create_symlink("../small", tree / "directory/link");
  fs::create_symlink(std::string(4000, 'x'), tree / "long link");
  fs::create_symlink("nowhere", tree / "dangling");
  pyram::write_file(tree / "\xc3\xa4 'quoted' \"name\"\n", "name\n");
  REQUIRE(::mkfifo((tree / "pipe").c_str(), 0600) == 0);
  REQUIRE(::chmod((tree / "small").c_str(), 04711) == 0);
  REQUIRE(::chmod((tree / "directory/below").c_str(), 01777) == 0);
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1234567890, .tv_nsec = 0}};
  REQUIRE(::utimensat(AT_FDCWD, (tree / "empty").c_str(), times, 0) == 0);
}

std::set<std::string> names_in(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename());
  return names;
}

// Inode numbers of one tree against those of the other: hard links have to correspond.
using LinkMap = std::map<ino_t, ino_t>;

// Checks without Catch's macros for what is right, which are slow, 10,000 times over.
void compare(const fs::path& expected, const fs::path& found, LinkMap& links) {
  INFO(expected << " and " << found);
  struct stat want {};
  struct stat have {};
  REQUIRE(::lstat(expected.c_str(), &want) == 0);
  REQUIRE(::lstat(found.c_str(), &have) == 0);
  if (want.st_mode != have.st_mode) CHECK(want.st_mode == have.st_mode);
  if (want.st_mtime != have.st_mtime) CHECK(want.st_mtime == have.st_mtime);
  if (want.st_uid != have.st_uid) CHECK(want.st_uid == have.st_uid);
  if (want.st_nlink != have.st_nlink) CHECK(want.st_nlink == have.st_nlink);
  if (S_ISDIR(want.st_mode)) {
    const std::set<std::string> names = names_in(expected);
    REQUIRE(names == names_in(found));
    for (const std::string& name : names) compare(expected / name, found / name, links);
    return;
  }
  if (links.try_emplace(want.st_ino, have.st_ino).first->second != have.st_ino) {
    CHECK(links[want.st_ino] == have.st_ino);
  }
  if (want.st_size != have.st_size) CHECK(want.st_size == have.st_size);
  if (S_ISLNK(want.st_mode)) {
    CHECK(fs::read_symlink(expected) == fs::read_symlink(found));
  } else if (S_ISREG(want.st_mode)) {
    // Not CHECK(a == b): a difference of megabytes would be printed.
    const bool same = pyram::read_file(expected) == pyram::read_file(found);
    if (!same) CHECK(same);
  }
}

void compare(const fs::path& expected, const fs::path& found) {
  LinkMap links;
  compare(expected, found, links);
}

}  // namespace

TEST_CASE("odd images read back as what went into them") {
  const std::vector<std::string> options = GENERATE(
      std::vector<std::string>{"-b", "4K"}, std::vector<std::string>{"-b", "1M"},
      std::vector<std::string>{"-noI", "-noD", "-noF"}, std::vector<std::string>{"-no-fragments"},
      std::vector<std::string>{"-always-use-fragments"}, std::vector<std::string>{"-no-exports"});
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  make_tree(directory / "tree");
  const Mount mount(pyram::test::make_image(directory / "tree", directory / "image", options));
  compare(directory / "tree", mount.path());
}

TEST_CASE("attributes are those of the image, and none cost a request where there are none") {
  const TemporaryDirectory directory;
  const fs::path tree = directory / "tree";
  fs::create_directory(tree);
  pyram::write_file(tree / "file", "x");
  std::array<char, 100> value{};
  SECTION("with attributes") {
    if (::setxattr((tree / "file").c_str(), "user.colour", "blue", 4, 0) != 0) {
      PYRAM_SKIP("the temporary directory's file system has no user attributes");
    }
    const Mount mount(pyram::test::make_image(tree, directory / "image", {"-xattrs"}));
    CHECK(::getxattr((mount / "file").c_str(), "user.colour", value.data(), value.size()) == 4);
    CHECK(std::string(value.data()) == "blue");
    CHECK(::getxattr((mount / "file").c_str(), "user.colour", value.data(), 2) == -1);
    CHECK(errno == ERANGE);
    CHECK(::getxattr((mount / "file").c_str(), "user.other", value.data(), 2) == -1);
    CHECK(errno == ENODATA);
    CHECK(::listxattr((mount / "file").c_str(), value.data(), value.size()) ==
          sizeof("user.colour"));
  }
  SECTION("without") {
    const Mount mount(pyram::test::make_image(tree, directory / "image", {"-no-xattrs"}));
    for (int i = 0; i < 3; ++i) {
      CHECK(::getxattr((mount / "file").c_str(), "user.colour", value.data(), value.size()) == -1);
    }
    CHECK(mount.count("requests_getxattr") == 1);
  }
}

TEST_CASE("what is read again, opened again or missing again asks the daemon nothing") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  make_tree(directory / "tree");
  const Mount mount(pyram::test::make_image(directory / "tree", directory / "image"));
  const auto use = [&] {
    compare(directory / "tree", mount.path());
    CHECK_FALSE(fs::exists(mount / "missing"));
  };
  use();
  // The status is asked for by an ioctl, on a directory that is opened.
  const std::uint64_t before = mount.count("requests");
  use();
  CHECK(mount.count("requests") == before + 1);
}
