// What one request, and one walk, may cost: counted in bytes read of the image.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "fusefs/image/block_list_index.h"
#include "fusefs/image/image.h"
#include "fusefs/serve/whole_image.h"
#include "support/error.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"

namespace fs = std::filesystem;
using pyram::BlockListIndex;
using pyram::FileMap;
using pyram::Image;
using pyram::InodeRef;
using pyram::test::TemporaryDirectory;

namespace {

constexpr std::uint64_t kBlock = 4096;  // The smallest: the longest block list.
constexpr off_t kLargeFile = off_t{2} << 30;
constexpr std::uint64_t kStretches = kLargeFile / kBlock / Image::kBlocksPerMap;
constexpr std::uint64_t kMetadataRead = 8194;  // What the reader reads for one metadata block.

// A file of holes with a block of data here and there: 260 metadata blocks of sizes of blocks.
fs::path image_of_large_file(const TemporaryDirectory& directory) {
  fs::create_directory(directory / "tree");
  const pyram::UniqueFd file(
      ::open((directory / "tree/large").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  REQUIRE(::ftruncate(file.get(), kLargeFile) == 0);
  for (off_t at = 0; at < kLargeFile; at += off_t{50} << 20) {
    REQUIRE(::pwrite(file.get(), "data", 4, at) == 4);
  }
  return pyram::test::make_image(directory / "tree", directory / "image",
                                 {"-b", std::to_string(kBlock)});
}

// Bytes that this thread has read by read() and the like.
std::uint64_t bytes_read() {
  std::ifstream io("/proc/thread-self/io");
  std::string name;
  std::uint64_t count = 0;
  REQUIRE(io >> name >> count);
  REQUIRE(name == "rchar:");
  return count;
}

InodeRef find(const Image& image, std::string_view path) {
  const std::optional<InodeRef> found = pyram::find_path(image, path);
  REQUIRE(found);
  return *found;
}

std::uint64_t first_block_of(std::uint64_t stretch) { return stretch * Image::kBlocksPerMap; }

// What tells one stretch from another.
std::vector<std::uint64_t> positions(const FileMap& map) {
  std::vector<std::uint64_t> result = {map.first};
  for (const pyram::Block& block : map.blocks) result.push_back(block.position);
  return result;
}

}  // namespace

TEST_CASE("a read far into a large file costs as much as one at its beginning") {
  const TemporaryDirectory directory;
  const auto image = Image::open(image_of_large_file(directory));
  const InodeRef file = find(*image, "large");
  // Each stretch from the file's beginning on, before anything is known.
  std::vector<std::vector<std::uint64_t>> expected;
  for (std::uint64_t stretch = 0; stretch < kStretches; stretch += 37) {
    image->forget_metadata();
    expected.push_back(positions(image->file_map(file, first_block_of(stretch))));
  }
  image->forget_metadata();
  static_cast<void>(image->file_map(file, kLargeFile / kBlock - 1));
  std::minstd_rand random(1);
  constexpr std::uint64_t kReads = 100;
  const std::uint64_t before = bytes_read();
  for (std::uint64_t i = 0; i < kReads; ++i) {
    static_cast<void>(image->file_map(file, random() % (kLargeFile / kBlock)));
  }
  // The inode, and the stretch's sizes, which lie in one metadata block or two.
  CHECK((bytes_read() - before) / kReads <= 3 * kMetadataRead);

  const auto check_all = [&] {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (positions(image->file_map(file, first_block_of(i * 37))) != expected[i]) return false;
    }
    return true;
  };
  CHECK(check_all());
  image->forget_metadata();
  std::vector<int> same(4);
  {
    std::vector<std::jthread> threads;
    for (int& result : same) threads.emplace_back([&] { result = check_all() ? 1 : 0; });
  }
  CHECK(same == std::vector<int>{1, 1, 1, 1});
}

TEST_CASE("the index of block lists is bounded, for one file and for all") {
  BlockListIndex index;
  constexpr std::uint64_t kMany = 100'000;
  for (std::uint64_t stretch = 1; stretch < kMany; ++stretch) {
    index.add({1}, stretch, {stretch, 0, stretch});
  }
  for (std::uint64_t stretch = 0; stretch < kMany; stretch += 777) {
    const auto found = index.find({1}, stretch);
    const std::uint64_t place = found ? found->stretch : 0;
    CHECK(place <= stretch);
    // kPlaces are left of kMany, or half as many.
    CHECK(stretch - place <= 2 * kMany / BlockListIndex::kPlaces + 1);
    if (found) CHECK(found->place.position == place);
  }
  // What doesn't follow is not kept: it would be taken for another stretch.
  index.add({2}, 7, {7, 0, 7});
  CHECK_FALSE(index.find({2}, 7));
  for (std::uint64_t file = 10; file < 10 + BlockListIndex::kFiles; ++file) {
    index.add({file}, 1, {1, 0, 1});
  }
  CHECK_FALSE(index.find({1}, kMany));
  CHECK(index.find({10}, 1));
}

TEST_CASE("one request goes through so much metadata, and no more") {
  const TemporaryDirectory directory;
  const auto image = Image::open(image_of_large_file(directory));
  const InodeRef file = find(*image, "large");
  constexpr std::uint64_t kMost = 50;
  int errors = 0;
  for (bool done = false; !done;) {
    REQUIRE(errors < 20);
    const std::uint64_t before = bytes_read();
    try {
      const pyram::MetadataLimit limit(kMost);
      static_cast<void>(image->file_map(file, kLargeFile / kBlock - 1));
      done = true;
    } catch (const pyram::Error& error) {
      CHECK(error.error_number() == EIO);
      ++errors;
    }
    CHECK(bytes_read() - before <= kMost * kMetadataRead);
  }
  // Each one got further than the one before: what it had added up is kept.
  CHECK(errors > 1);
}

TEST_CASE("a walk of a whole image stops as soon as it is told to") {
  const TemporaryDirectory directory;
  for (int i = 0; i < 2000; ++i) {
    const fs::path parent = directory / ("tree/" + std::to_string(i));
    fs::create_directories(parent);
    std::ofstream(parent / "file") << i;
  }
  const auto image = Image::open(pyram::test::make_image(directory / "tree", directory / "image"));
  std::stop_source stop;
  const auto all = pyram::whole_image(*image, stop.get_token());
  REQUIRE(all.size() == 1);
  CHECK(all[0].ranges.size() == 2000);
  image->forget_metadata();
  stop.request_stop();
  const std::uint64_t before = bytes_read();
  CHECK(pyram::whole_image(*image, stop.get_token()).empty());
  // The root, and the first of its names.
  CHECK(bytes_read() - before <= 3 * kMetadataRead);
}
