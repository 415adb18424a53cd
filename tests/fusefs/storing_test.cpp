// What the daemon puts into the page cache before a program asks for it.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <future>
#include <span>
#include <string>
#include <thread>

#include "fusefs/image/image.h"
#include "fusefs/serve/block_cache.h"
#include "fusefs/serve/block_filler.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/statistics.h"
#include "support/io.h"
#include "support/process.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::test::Mount;
using pyram::test::noise;

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kBlock = 128 << 10;  // mksquashfs's own choice.

void wait_until_stored(const Mount& mount, std::uint64_t bytes) {
  while (mount.count("stored_bytes") < bytes) {
  }
}

}  // namespace

TEST_CASE("a block that is read a page at a time is stored whole") {
  const pyram::test::TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  const std::string content = noise(2 * kBlock, 1);
  pyram::write_file(directory / "tree/file", content);
  const Mount mount(pyram::test::make_image(directory / "tree", directory / "image"));
  const pyram::UniqueFd file(::open((mount / "file").c_str(), O_RDONLY | O_CLOEXEC));
  // As databases do: the kernel then reads nothing ahead.
  REQUIRE(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM) == 0);
  const auto check_page = [&](std::uint64_t offset) {
    std::array<char, kPage> page{};
    REQUIRE(::pread(file.get(), page.data(), kPage, static_cast<off_t>(offset)) == kPage);
    CHECK(std::string_view(page.data(), kPage) == content.substr(offset, kPage));
  };
  check_page(5 * kPage);
  wait_until_stored(mount, kBlock);
  for (std::uint64_t offset = 0; offset < kBlock; offset += kPage) check_page(offset);
  CHECK(mount.count("requests_read") == 1);
  // Of the block beside it nothing was stored.
  check_page(kBlock);
  CHECK(mount.count("requests_read") == 2);
}

TEST_CASE("blocks are stored whole also after an unmount that failed") {
  const pyram::test::TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  const std::string content = noise(kBlock, 1);
  pyram::write_file(directory / "tree/file", content);
  const Mount mount(pyram::test::make_image(directory / "tree", directory / "image"));
  const pyram::UniqueFd file(::open((mount / "file").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM) == 0);
  // The file is open: the mount is in use.
  const pyram::Command unmount{
      .arguments = {pyram::test::program("pyram-mount"), "--unmount", mount.path().native()}};
  CHECK_FALSE(pyram::run(unmount).ok());
  char byte = 0;
  REQUIRE(::pread(file.get(), &byte, 1, 0) == 1);
  CHECK(byte == content[0]);
  wait_until_stored(mount, kBlock);
  CHECK(mount.count("requests_read") == 1);
}

TEST_CASE("of files that lie side by side a few are asked for, and the rest is stored") {
  const pyram::test::TemporaryDirectory directory;
  fs::create_directories(directory / "tree/known");
  fs::create_directories(directory / "tree/unknown");
  constexpr unsigned kFiles = 50;
  const auto path = [](unsigned n) { return "known/" + std::to_string(n); };
  for (unsigned n = 0; n < kFiles; ++n) {
    pyram::write_file(directory / "tree" / path(n), noise(1000 + n, n));
  }
  pyram::write_file(directory / "tree/unknown/file", noise(1000, kFiles));
  const Mount mount(pyram::test::make_image(directory / "tree", directory / "image"));
  // Listed, as a program does that looks for its modules: only what has a name can be stored.
  for (const auto& entry : fs::directory_iterator(mount / "known")) CHECK(entry.is_regular_file());
  std::uint64_t bytes = 0;
  for (unsigned n = 0; n < kFiles; ++n) bytes += 1000 + n;
  for (unsigned n = 0; n < 3; ++n) CHECK(pyram::read_file(mount / path(n)) == noise(1000 + n, n));
  wait_until_stored(mount, bytes);
  for (unsigned n = 3; n < kFiles; ++n) {
    CHECK(pyram::read_file(mount / path(n)) == noise(1000 + n, n));
  }
  CHECK(mount.count("requests_read") == 3);
  CHECK(mount.count("stored_bytes") == bytes);
  CHECK(mount.count("decompressed_blocks") == 1);
  CHECK(pyram::read_file(mount / "unknown/file") == noise(1000, kFiles));
  CHECK(mount.count("requests_read") == 4);
}

TEST_CASE("a filler that is stopped while it starts has stopped") {
  const pyram::test::TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  pyram::write_file(directory / "tree/file", "content");
  const auto image =
      pyram::Image::open(pyram::test::make_image(directory / "tree", directory / "image"));
  pyram::Statistics statistics;
  pyram::BlockCache cache(*image, statistics, std::size_t{1} << 20, 2);
  pyram::ExtentMapper extents(*image, cache);
  for (int i = 0; i < 2000; ++i) {
    std::promise<void> stopped;
    pyram::BlockFiller filler(extents,
                              [](pyram::InodeRef, std::uint64_t, std::span<const std::byte>) {});
    std::thread starting([&] { filler.start(); });
    filler.stop([&] { stopped.set_value(); });
    // A stop that is lost is never reported. The time is for that alone.
    const auto state = stopped.get_future().wait_for(std::chrono::seconds(30));
    starting.join();
    REQUIRE(state == std::future_status::ready);
  }
}
