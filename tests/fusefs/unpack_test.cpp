// Unpacking with what a start reads first: files that get their content behind those who open them.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "fusefs/image/image.h"
#include "fusefs/unpack/extract.h"
#include "fusefs/unpack/lazy_files.h"
#include "fusefs/unpack/plan.h"
#include "support/child.h"
#include "support/image_layout.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"

namespace fs = std::filesystem;
using pyram::Child;
using pyram::Image;
using pyram::test::noise;
using pyram::test::TemporaryDirectory;

namespace {

constexpr unsigned kFiles = 20;

std::string name_of(unsigned n) { return "file" + std::to_string(n); }

// Files of noise, in a tree that has a hot list with the first of them.
fs::path make_tree(const TemporaryDirectory& directory, std::size_t size, unsigned count = kFiles) {
  fs::path tree = directory / "tree";
  fs::create_directories(tree / pyram::layout::kMetadata);
  for (unsigned n = 0; n < count; ++n) pyram::write_file(tree / name_of(n), noise(size, n));
  pyram::write_file(tree / pyram::layout::kHotList,
                    "pyram hot list 1\n0 4096 " + name_of(0) + "\n");
  return tree;
}

// The files of an image, planned and not yet written.
struct Scene {
  explicit Scene(const TemporaryDirectory& directory, std::size_t size, unsigned count = kFiles)
      : image(Image::open(
            pyram::test::make_image(make_tree(directory, size, count), directory / "image"))),
        plan(pyram::plan_tree(*image, directory / "unpacked")) {
    for (const pyram::PlannedFile& file : plan.files) files.push_back(&file);
  }

  std::unique_ptr<Image> image;
  pyram::Plan plan;
  std::vector<const pyram::PlannedFile*> files;
};

// Ends when all other processes have closed the pipe.
void wait_for_end(pyram::Pipe& pipe) {
  pipe.writer.reset();
  char byte = 0;
  while (::read(pipe.reader.get(), &byte, 1) > 0) {
  }
}

}  // namespace

TEST_CASE("who opens a file before it has its content waits for it") {
  const TemporaryDirectory directory;
  const Scene scene(directory, 300'000);
  pyram::Pipe ready = pyram::make_pipe();
  // A process of its own: only this thread.
  Child unpacker = Child::fork("unpack", [&] {
    REQUIRE(pyram::LazyFiles::can_be_had(scene.plan, scene.files.size()));
    pyram::LazyFiles lazy(*scene.image, scene.plan, 1, scene.files);
    // The size is there at once.
    const fs::path file = scene.plan.root / name_of(kFiles - 1);
    if (fs::file_size(file) != 300'000) return 2;
    Child reader = Child::fork("read", [&] {
      if (::write(ready.writer.get(), "r", 1) != 1) return 3;
      return pyram::read_file(file) == noise(300'000, kFiles - 1) ? 0 : 4;
    });
    char byte = 0;
    if (::read(ready.reader.get(), &byte, 1) != 1) return 5;
    bool done = false;
    lazy.fill([&] { done = true; });
    return done ? reader.wait() : 6;
  });
  CHECK(unpacker.wait() == 0);
  for (unsigned n = 0; n < kFiles; ++n) {
    CHECK(pyram::read_file(scene.plan.root / name_of(n)) == noise(300'000, n));
  }
}

// A signal to a thread that has ended is lost; the kernel takes the lease away after a while, and
// the program that waits gets a file without its content.
TEST_CASE("the process is told of who waits, whichever of its threads took the lease") {
  const TemporaryDirectory directory;
  const Scene scene(directory, 100, 3000);
  Child unpacker = Child::fork("unpack", [&] {
    const pyram::LazyFiles lazy(*scene.image, scene.plan, 4, scene.files);
    std::size_t leases = 0;
    std::size_t ours = 0;
    for (int fd = 0; fd < 4000; ++fd) {
      if (::fcntl(fd, F_GETLEASE) != F_WRLCK) continue;
      ++leases;
      if (::fcntl(fd, F_GETOWN) == ::getpid()) ++ours;
    }
    return leases == scene.files.size() && ours == leases ? 0 : 1;
  });
  CHECK(unpacker.wait() == 0);
}

TEST_CASE("an unpacking process that is killed is replaced") {
  constexpr std::size_t kSize = 4'000'000;
  const TemporaryDirectory directory;
  const fs::path image = pyram::test::make_image(make_tree(directory, kSize), directory / "image");
  pyram::Pipe usable = pyram::make_pipe();
  pyram::Pipe alive = pyram::make_pipe();
  Child unpacker = Child::fork("unpack", [&] {
    pyram::extract_hot_first({.image = image, .directory = directory / "unpacked"}, [&] {
      [[maybe_unused]] const ssize_t n = ::write(usable.writer.get(), "u", 1);
    });
    return 0;
  });
  char byte = 0;
  REQUIRE(::read(usable.reader.get(), &byte, 1) == 1);
  CHECK(pyram::read_file(directory / "unpacked" / name_of(0)) == noise(kSize, 0));
  // The second process is forked before any of the others is written whole.
  CHECK(pyram::read_file(directory / "unpacked" / name_of(1)) == noise(kSize, 1));
  unpacker.signal(SIGKILL);
  unpacker.wait();
  for (unsigned n = 0; n < kFiles; ++n) {
    CHECK(pyram::read_file(directory / "unpacked" / name_of(n)) == noise(kSize, n));
  }
  wait_for_end(alive);
  CHECK_FALSE(fs::exists(directory / "unpacked" / pyram::layout::kUnfinished));
}

TEST_CASE("a file that cannot be unpacked later is closed, and the tree stays unfinished") {
  constexpr std::size_t kSize = 300'000;
  const TemporaryDirectory directory;
  // Inodes as they are, so that the sizes of the blocks lie there to be changed.
  const fs::path image = pyram::test::make_image(make_tree(directory, kSize), directory / "image",
                                                 {"-noI", "-noD", "-no-fragments"});
  std::string bytes = pyram::read_file(image);
  const auto field = [](std::uint32_t size) {
    constexpr std::uint32_t kNotCompressed = 1U << 24;
    const std::uint32_t value = size | kNotCompressed;
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  constexpr std::uint32_t kBlock = 128 << 10;
  const std::size_t place = bytes.rfind(field(kBlock) + field(kBlock));
  REQUIRE(place != std::string::npos);
  bytes.replace(place, sizeof(std::uint32_t), field(kBlock / 2));
  pyram::write_file(image, bytes);
  pyram::Pipe alive = pyram::make_pipe();
  Child unpacker = Child::fork("unpack", [&] {
    pyram::extract_hot_first({.image = image, .directory = directory / "unpacked"}, [] {});
    return 0;
  });
  CHECK(unpacker.wait() == 0);
  wait_for_end(alive);
  CHECK(fs::exists(directory / "unpacked" / pyram::layout::kUnfinished));
  unsigned closed = 0;
  for (unsigned n = 0; n < kFiles; ++n) {
    const fs::path file = directory / "unpacked" / name_of(n);
    if (fs::file_size(file) == 0) {
      CHECK(fs::status(file).permissions() == fs::perms::none);
      ++closed;
    } else {
      CHECK(pyram::read_file(file) == noise(kSize, n));
    }
  }
  CHECK(closed == 1);
}
