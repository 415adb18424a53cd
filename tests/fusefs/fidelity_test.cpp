// What is read through a mount is what is in the image: every byte, name, mode, time and link.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "fusefs/image/compressors.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"
#include "tests/support/tree.h"

namespace fs = std::filesystem;
using pyram::test::compare_trees;
using pyram::test::Comparison;
using pyram::test::make_image;
using pyram::test::Mount;
using pyram::test::TemporaryDirectory;

namespace {

constexpr std::size_t kBlock = 128 * 1024;  // mksquashfs's own.

// Bytes that don't compress much, the same ones at every run.
std::string noise(std::size_t size, unsigned seed = 1) {
  std::minstd_rand random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() & 0x3f);
  return bytes;
}

void sparse_file(const fs::path& path, off_t size, const std::string& end) {
  std::ofstream file(path, std::ios::binary);
  file.seekp(size - static_cast<off_t>(end.size()));
  file << end;
}

// Everything that a SquashFS can hold and a plain user can make.
void make_tree(const fs::path& tree) {
  fs::create_directories(tree / "directory/in/a directory with 'quotes' and spaces");
  fs::create_directory(tree / "empty directory");
  pyram::write_file(tree / "empty", "");
  pyram::write_file(tree / "one byte", "x");
  pyram::write_file(tree / "one block", noise(kBlock));
  pyram::write_file(tree / "one block less a byte", noise(kBlock - 1, 2));
  pyram::write_file(tree / "one block and a byte", noise(kBlock + 1, 3));
  pyram::write_file(tree / "three blocks", noise(3 * kBlock, 4));
  pyram::write_file(tree / "zeros", std::string(5 * kBlock + 17, '\0'));
  for (unsigned i = 0; i < 50; ++i) {
    pyram::write_file(tree / "directory" / ("fragment " + std::to_string(i)),
                      noise(100 * i + 1, i));
  }
  sparse_file(tree / "sparse", off_t{40} * 1024 * 1024, "the end");
  sparse_file(tree / "sparse at the end", 1024 * 1024, std::string(4096, '\0'));
  fs::create_hard_link(tree / "three blocks", tree / "directory/in/another name");
  fs::create_symlink("../one byte", tree / "directory/link");
  fs::create_symlink(std::string(1000, 'l'), tree / "a long link to nowhere");
  REQUIRE(::mkfifo((tree / "pipe").c_str(), 0640) == 0);
  fs::permissions(tree / "one byte", fs::perms::owner_read);
  // Before 1970 can't be said in a SquashFS; long ago can.
  const struct timespec times[2] = {{1, 0}, {1, 0}};
  REQUIRE(::utimensat(AT_FDCWD, (tree / "empty").c_str(), times, 0) == 0);
}

void check_same(const Comparison& comparison) {
  for (std::size_t i = 0; i < std::min<std::size_t>(comparison.differences.size(), 10); ++i) {
    UNSCOPED_INFO(comparison.differences[i]);
  }
  CHECK(comparison.differences.empty());
}

void unsquash(const fs::path& image, const fs::path& directory) {
  const pyram::Outcome outcome =
      pyram::run({.arguments = {"unsquashfs", "-quiet", "-no-progress", "-d", directory.native(),
                                image.native()}});
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
}

}  // namespace

TEST_CASE("every file of the default image is what unsquashfs makes of it") {
  const TemporaryDirectory directory;
  unsquash(pyram::test::default_image(), directory / "tree");
  // What anybody but root unpacks is his own.
  std::vector<std::string> options;
  if (::geteuid() != 0) {
    options = {"-o", "uid=" + std::to_string(::geteuid()) + ",gid=" + std::to_string(::getegid())};
  }
  const Mount mount(pyram::test::default_image(), options);
  const Comparison comparison = compare_trees(directory / "tree", mount.path());
  CHECK(comparison.entries > 1000);
  check_same(comparison);
  CHECK(mount.count("errors") == 0);
}

TEST_CASE("every kind of file, with every compressor that mksquashfs offers") {
  const std::string compressor =
      GENERATE(as<std::string>{}, "gzip", "lzma", "lzo", "lz4", "xz", "zstd");
  const bool compressed = GENERATE(true, false);
  INFO(compressor << (compressed ? "" : ", stored as it is"));
  const TemporaryDirectory directory;
  make_tree(directory / "tree");
  std::vector<std::string> options = {"-comp", compressor};
  // No data, no metadata, no fragments, no ids compressed: the other half of every branch.
  if (!compressed) options.insert(options.end(), {"-noI", "-noD", "-noF", "-noX"});
  make_image(directory / "tree", directory / "image", options);
  if (compressor == "lzma" && !pyram::find_decompressor(pyram::Compression::kLzma)) {
    // The kernel doesn't read it, and not every version of squashfuse's library does.
    fs::create_directory(directory / "mount");
    const pyram::Outcome outcome =
        pyram::run({.arguments = {pyram::test::program("pyram-mount"), directory / "image",
                                  directory / "mount"}});
    INFO(outcome.errors);
    CHECK(outcome.status != 0);
    CHECK(outcome.errors.find("lzma") != std::string::npos);
    return;
  }
  const Mount mount(directory / "image");
  check_same(compare_trees(directory / "tree", mount.path()));
  CHECK(mount.count("errors") == 0);
}

TEST_CASE("every block size, with and without fragments") {
  const std::string block = GENERATE(as<std::string>{}, "4096", "65536", "1048576");
  const std::string fragments =
      GENERATE(as<std::string>{}, "-no-fragments", "-always-use-fragments");
  INFO(block << ' ' << fragments);
  const TemporaryDirectory directory;
  make_tree(directory / "tree");
  make_image(directory / "tree", directory / "image", {"-b", block, fragments});
  const Mount mount(directory / "image");
  check_same(compare_trees(directory / "tree", mount.path()));
}

TEST_CASE("devices and owners are shown as they are") {
  if (!pyram::test::running_as_root()) PYRAM_SKIP("only root can make device nodes");
  const TemporaryDirectory directory;
  const fs::path tree = directory / "tree";
  fs::create_directory(tree);
  REQUIRE(::mknod((tree / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
  REQUIRE(::mknod((tree / "disk").c_str(), S_IFBLK | 0600, makedev(259, 70000)) == 0);
  pyram::write_file(tree / "file", "owned");
  REQUIRE(::chown((tree / "file").c_str(), 70001, 70002) == 0);
  REQUIRE(::chmod((tree / "file").c_str(), 04755) == 0);
  make_image(tree, directory / "image");
  const Mount mount(directory / "image");
  check_same(compare_trees(tree, mount.path()));
}

TEST_CASE("a directory of 50,000 names") {
  const TemporaryDirectory directory;
  fs::create_directories(directory / "tree/many");
  constexpr unsigned kNames = 50'000;
  for (unsigned i = 0; i < kNames; ++i) {
    const fs::path name = directory / "tree/many" / ("name " + std::to_string(i));
    REQUIRE(::symlink("..", name.c_str()) == 0);
  }
  make_image(directory / "tree", directory / "image");
  const Mount mount(directory / "image");
  const Comparison comparison = compare_trees(directory / "tree", mount.path());
  CHECK(comparison.entries == kNames + 1);
  check_same(comparison);
  CHECK_FALSE(fs::exists(mount / "many/name 50000"));
  CHECK(fs::is_symlink(mount / "many/name 49999"));
}

TEST_CASE("many readers of a block make one decompression") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  constexpr std::size_t kBlocks = 40;
  pyram::write_file(directory / "tree/file", noise(kBlocks * kBlock));
  make_image(directory / "tree", directory / "image");
  const Mount mount(directory / "image", {"--prefetch", "none"});
  const pyram::UniqueFd file(::open((mount / "file").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(file);
  // Each reader takes pages of its own, so that each has to ask the daemon for itself.
  REQUIRE(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM) == 0);
  constexpr std::size_t kReaders = 8;
  constexpr std::size_t kPage = 4096;
  {
    std::vector<std::jthread> readers;
    for (std::size_t reader = 0; reader < kReaders; ++reader) {
      readers.emplace_back([&, reader] {
        std::byte page[kPage];
        for (std::size_t block = 0; block < kBlocks; ++block) {
          static_cast<void>(pyram::pread_full(file.get(), page, block * kBlock + reader * kPage));
        }
      });
    }
  }
  CHECK(mount.count("decompressed_blocks") == kBlocks);
}

TEST_CASE("an image that is truncated while it is mounted gives errors, and never other bytes") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  const std::string bytes = noise(100 * kBlock);
  pyram::write_file(directory / "tree/a", bytes);
  pyram::write_file(directory / "tree/small", "still here");
  make_image(directory / "tree", directory / "image", {"-sort", "/dev/null"});
  const Mount mount(directory / "image", {"--prefetch", "none"});
  CHECK(pyram::read_file(mount / "small") == "still here");
  fs::resize_file(directory / "image", fs::file_size(directory / "image") / 2);
  const pyram::UniqueFd file(::open((mount / "a").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(file);
  std::size_t good = 0;
  std::size_t failed = 0;
  std::string block(kBlock, '\0');
  for (std::size_t i = 0; i < 100; ++i) {
    const ssize_t n = ::pread(file.get(), block.data(), kBlock, static_cast<off_t>(i * kBlock));
    if (n < 0) {
      CHECK(errno == EIO);
      ++failed;
    } else {
      CHECK(bytes.compare(i * kBlock, static_cast<std::size_t>(n), block, 0,
                          static_cast<std::size_t>(n)) == 0);
      good += n == static_cast<ssize_t>(kBlock) ? 1 : 0;
    }
  }
  CHECK(good > 0);
  CHECK(failed > 0);
  CHECK(pyram::read_file(mount / "small") == "still here");
}

TEST_CASE("a block of another length than its file needs is an error, mounted and unpacked") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  pyram::write_file(directory / "tree/a", noise(2 * kBlock));
  pyram::write_file(directory / "tree/other", "whole");
  // Inodes as they are, so that the sizes of the blocks lie there to be changed.
  const fs::path image =
      make_image(directory / "tree", directory / "image", {"-noI", "-noD", "-no-fragments"});
  std::string bytes = pyram::read_file(image);
  // A block's stored size, and the bit that says that it is not compressed. Little-endian.
  constexpr std::uint32_t kNotCompressed = 1U << 24;
  const auto field = [](std::uint32_t size) {
    const std::uint32_t value = size | kNotCompressed;
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const std::size_t place = bytes.rfind(field(kBlock) + field(kBlock));
  REQUIRE(place != std::string::npos);
  // Half a block: another block would have to be put together from it and what follows.
  bytes.replace(place, sizeof(std::uint32_t), field(kBlock / 2));
  pyram::write_file(image, bytes);
  {
    const Mount mount(image, {"--prefetch", "none"});
    const pyram::UniqueFd file(::open((mount / "a").c_str(), O_RDONLY | O_CLOEXEC));
    std::string block(kBlock, '\0');
    CHECK(::pread(file.get(), block.data(), kBlock, 0) < 0);
    CHECK(errno == EIO);
    CHECK(pyram::read_file(mount / "other") == "whole");
  }
  const pyram::Outcome outcome =
      pyram::run({.arguments = {pyram::test::program("pyram-mount"), "--extract", image.native(),
                                (directory / "out").native()}});
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(pyram::ExitCode::kBadImage));
  CHECK(outcome.errors.find("false length") != std::string::npos);
  CHECK_FALSE(fs::exists(directory / "out"));
}
