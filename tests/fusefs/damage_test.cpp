// Images of which a part is damaged: the rest is served.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>

#include "support/exit_code.h"
#include "support/io.h"
#include "support/process.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::test::make_image;
using pyram::test::Mount;
using pyram::test::TemporaryDirectory;

namespace {

constexpr std::size_t kFiles = 50;
constexpr std::uint32_t kMark = 0x1badcafe;  // A time that no other file has.

std::string name_of(std::size_t number) { return "file " + std::to_string(number); }

void set_time(const fs::path& path, std::int64_t seconds) {
  const timespec times[2] = {{seconds, 0}, {seconds, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

// The image of a directory of kFiles small files; file 25 has the marked time. Inodes and
// directories are stored as they are, so that they can be found and changed.
fs::path image_of_files(const TemporaryDirectory& directory) {
  const fs::path tree = directory / "tree/directory";
  fs::create_directories(tree);
  for (std::size_t i = 0; i < kFiles; ++i) {
    pyram::write_file(tree / name_of(i), name_of(i));
    set_time(tree / name_of(i), 1'000'000'000);
  }
  set_time(tree / name_of(25), kMark);
  return make_image(directory / "tree", directory / "image", {"-noI"});
}

// Where the marked inode begins: its time is the third of its header's fields.
std::size_t marked_inode(const std::string& image) {
  constexpr std::size_t kBeforeTime = 8;
  const std::size_t place =
      image.find(std::string(reinterpret_cast<const char*>(&kMark), sizeof kMark));
  REQUIRE(place != std::string::npos);
  return place - kBeforeTime;
}

void replace(const fs::path& file, std::size_t place, const std::string& bytes) {
  std::string content = pyram::read_file(file);
  content.replace(place, bytes.size(), bytes);
  pyram::write_file(file, content);
}

// The names in a directory; nothing of what listing it told the kernel is left out. Fails the test
// case where it can't be listed to its end.
std::set<std::string> names_in(const fs::path& directory) {
  DIR* const listing = ::opendir(directory.c_str());
  REQUIRE(listing != nullptr);
  std::set<std::string> names;
  errno = 0;
  while (const dirent* const entry = ::readdir(listing)) names.insert(entry->d_name);
  CHECK(errno == 0);
  ::closedir(listing);
  return names;
}

int error_of_stat(const fs::path& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 ? 0 : errno;
}

}  // namespace

TEST_CASE("of a directory with one damaged inode the others are listed and read") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  replace(image, marked_inode(pyram::read_file(image)), {'\x63', '\0'});
  const Mount mount(image, {"--prefetch", "none"});
  const std::set<std::string> names = names_in(mount / "directory");
  CHECK(names.size() == kFiles + 2);
  CHECK(names.contains(name_of(25)));
  // Listing it is no error; asking for what can't be read is.
  CHECK(mount.count("errors") == 0);
  CHECK(error_of_stat(mount / "directory/file 25") == EIO);
  CHECK(mount.count("errors") == 1);
  for (std::size_t i = 0; i < kFiles; ++i) {
    if (i != 25) CHECK(pyram::read_file(mount / ("directory/" + name_of(i))) == name_of(i));
  }
}

TEST_CASE("without a sound index of inodes directories are listed and read") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  // Of the export table, a list of where its metadata blocks are.
  constexpr std::size_t kExportTable = 88;
  std::uint64_t place = 0;
  std::memcpy(&place, &pyram::read_file(image)[kExportTable], sizeof place);
  SECTION("that leads nowhere") { replace(image, place, std::string(8, '\xfe')); }
  SECTION("that leads to no inode") {
    // Its first block has all entries: they lead outside of the table of inodes.
    std::uint64_t block = 0;
    std::memcpy(&block, &pyram::read_file(image)[place], sizeof block);
    const std::size_t header = 2;
    replace(image, block + header, std::string((kFiles + 2) * 8, '\x7e'));
  }
  const Mount mount(image, {"--prefetch", "none"});
  CHECK(names_in(mount / "directory").size() == kFiles + 2);
  CHECK(pyram::read_file(mount / "directory/file 7") == name_of(7));
  CHECK(mount.count("errors") == 0);
}

TEST_CASE("of a directory that is damaged in the middle what comes before is listed") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  // Names are sorted: "file 40" comes behind "file 39". A slash can't be in a name.
  const std::string content = pyram::read_file(image);
  const std::size_t place = content.rfind("file 40");
  REQUIRE(place != std::string::npos);
  replace(image, place, "fil/ 40");
  const Mount mount(image, {"--prefetch", "none"});
  DIR* const listing = ::opendir((mount / "directory").c_str());
  REQUIRE(listing != nullptr);
  std::set<std::string> names;
  errno = 0;
  while (const dirent* const entry = ::readdir(listing)) names.insert(entry->d_name);
  CHECK(errno == EIO);
  ::closedir(listing);
  CHECK(names.contains("file 39"));
  CHECK_FALSE(names.contains("file 41"));
}

TEST_CASE("a symbolic link that is longer than a path may be is an error, and is counted") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  // One behind the other in the table of inodes: so there are bytes for a longer one.
  for (const char* name : {"a", "b", "c"}) {
    fs::create_symlink(std::string(4000, *name), directory / ("tree/" + std::string(name)));
  }
  const fs::path image = make_image(directory / "tree", directory / "image", {"-noI"});
  const std::size_t target = pyram::read_file(image).find(std::string(4000, 'a'));
  REQUIRE(target != std::string::npos);
  const std::uint32_t size = 5000;
  replace(image, target - sizeof size, {reinterpret_cast<const char*>(&size), sizeof size});
  const Mount mount(image);
  std::array<char, 8192> text{};
  CHECK(::readlink((mount / "a").c_str(), text.data(), text.size()) < 0);
  CHECK(errno == EIO);
  CHECK(mount.count("errors") == 1);
  CHECK(::readlink((mount / "b").c_str(), text.data(), text.size()) == 4000);
}

TEST_CASE("a file that is another kind in its directory than in its inode is named") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const std::size_t name = pyram::read_file(image).rfind("file 25");
  REQUIRE(name != std::string::npos);
  // Before the name come two bytes of its length, and two of the type: 1 is a directory.
  replace(image, name - 4, {'\1', '\0'});
  fs::create_directory(directory / "mount");
  const pid_t daemon =
      pyram::test::serve_in_foreground(image, directory / "mount", directory / "log");
  CHECK(names_in(directory / "mount/directory").size() == kFiles + 2);
  CHECK(error_of_stat(directory / "mount/directory/file 25") == EIO);
  CHECK(pyram::read_file(directory / "mount/directory/file 24") == "file 24");
  REQUIRE(::kill(daemon, SIGTERM) == 0);
  REQUIRE(::waitpid(daemon, nullptr, 0) == daemon);
  const std::string log = pyram::read_file(directory / "log");
  INFO(log);
  CHECK(log.find("'/directory'") != std::string::npos);
  CHECK(log.find("'file 25'") != std::string::npos);
  const pyram::Outcome outcome =
      pyram::run({.arguments = {pyram::test::program("pyram-mount"), "--extract", image.native(),
                                (directory / "out").native()}});
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(pyram::ExitCode::kBadImage));
  CHECK(outcome.errors.find("'directory/file 25'") != std::string::npos);
}
