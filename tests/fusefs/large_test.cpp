// Large images: what nobody looks at costs nothing.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "support/io.h"
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

void make_empty_files(const fs::path& directory, unsigned count) {
  fs::create_directories(directory);
  for (unsigned i = 0; i < count; ++i) std::ofstream(directory / ("name " + std::to_string(i)));
}

// Bytes that the daemon read by read() and the like since it was started, and holds in memory. Only
// root may look at a confined one.
struct Cost {
  std::uint64_t read = 0;
  std::uint64_t resident = 0;
};
Cost cost_of(const Mount& mount) {
  std::ifstream io("/proc/" + std::to_string(mount.worker()) + "/io");
  Cost cost;
  std::string name;
  REQUIRE(io >> name >> cost.read);
  REQUIRE(name == "rchar:");
  cost.resident = mount.count("resident_bytes");
  return cost;
}

}  // namespace

TEST_CASE("a mount costs the same, however many files and bytes the image has") {
  PYRAM_SKIP_WITH_SANITIZERS("what they hold counts as the daemon's memory");
  constexpr unsigned kDirectories = 200;
  constexpr unsigned kFilesEach = 1000;
  constexpr unsigned kFilesInOne = 100'000;
  constexpr off_t kLargeFile = off_t{5} << 30;
  const TemporaryDirectory directory;
  pyram::write_file((fs::create_directory(directory / "small"), directory / "small/file"),
                    "content");
  for (unsigned i = 0; i < kDirectories; ++i) {
    make_empty_files(directory / ("large/" + std::to_string(i)), kFilesEach);
  }
  make_empty_files(directory / "large/one directory", kFilesInOne);
  pyram::write_file(directory / "large/file", "content");
  {
    const pyram::UniqueFd file(
        ::open((directory / "large/gigabytes").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    REQUIRE(::pwrite(file.get(), "the end", 7, kLargeFile - 7) == 7);
  }
  make_image(directory / "small", directory / "small.sqfs");
  make_image(directory / "large", directory / "large.sqfs");
  fs::remove_all(directory / "large");

  Cost small;
  {
    const Mount mount(directory / "small.sqfs", {"-o", "noconfine"});
    CHECK(pyram::read_file(mount / "file") == "content");
    small = cost_of(mount);
  }
  const Mount mount(directory / "large.sqfs", {"-o", "noconfine"});
  CHECK(pyram::read_file(mount / "file") == "content");
  const Cost large = cost_of(mount);
  INFO("read " << small.read << " and " << large.read << ", resident " << small.resident << " and "
               << large.resident);
  // A few more metadata blocks, and an index.
  CHECK(large.read < small.read + 128 * 1024);
  CHECK(large.resident < small.resident + 1024 * 1024);

  {  // One name among many, and none among many.
    CHECK(fs::exists(mount / "one directory/name 99999"));
    CHECK_FALSE(fs::exists(mount / "one directory/name 100000"));
    CHECK(cost_of(mount).read < large.read + 256 * 1024);
  }
  {  // The end of a large file.
    const pyram::UniqueFd file(::open((mount / "gigabytes").c_str(), O_RDONLY | O_CLOEXEC));
    std::string end(16, 'x');
    REQUIRE(::pread(file.get(), end.data(), end.size(), kLargeFile - 7) == 7);
    CHECK(end.starts_with("the end"));
    struct stat status {};
    REQUIRE(::fstat(file.get(), &status) == 0);
    CHECK(status.st_size == kLargeFile);
  }
  {  // All of it.
    std::size_t names = 0;
    for (const auto& entry : fs::recursive_directory_iterator(mount.path())) {
      static_cast<void>(entry);
      ++names;
    }
    CHECK(names == kDirectories * (kFilesEach + 1) + kFilesInOne + 3);
    // What the kernel keeps of that is the kernel's.
    CHECK(cost_of(mount).resident < small.resident + std::uint64_t{8} * 1024 * 1024);
  }
}
