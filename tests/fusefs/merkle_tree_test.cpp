// The trailer of an image: right ones hold, and no wrong one is believed or does harm.
#include "fusefs/image/merkle_tree.h"

#include <fcntl.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "support/error.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"

namespace fs = std::filesystem;
using namespace pyram;
using pyram::test::TemporaryDirectory;

namespace {

std::vector<std::byte> noise(std::size_t size) {
  std::mt19937 random(7);
  std::vector<std::byte> result(size);
  for (std::byte& byte : result) byte = static_cast<std::byte>(random());
  return result;
}

// The hashes of each block of `data`, padded to whole blocks.
std::vector<std::byte> level_above(std::span<const std::byte> data) {
  std::vector<std::byte> result;
  for (std::size_t at = 0; at < data.size(); at += 4096) {
    const auto block = data.subspan(at, std::min<std::size_t>(4096, data.size() - at));
    const Sha256 hash = sha256(block, 4096 - block.size());
    result.insert(result.end(), hash.begin(), hash.end());
  }
  return result;
}

// Data with a trailer, put together here in another way than the code under test does it.
std::vector<std::byte> sealed(const std::vector<std::byte>& data) {
  std::vector<std::byte> tree;
  std::vector<std::byte> hashes = level_above(data);
  while (hashes.size() > 32) {
    hashes.resize((hashes.size() + 4095) / 4096 * 4096);
    tree.insert(tree.begin(), hashes.begin(), hashes.end());
    hashes = level_above(hashes);
  }
  Trailer trailer;
  trailer.data_size = data.size();
  trailer.tree_size = tree.size();
  std::copy(hashes.begin(), hashes.end(), trailer.root.begin());
  trailer.digest = sha256(verity_descriptor(data.size(), trailer.root));
  const auto header = format_trailer(trailer);
  std::vector<std::byte> file = data;
  file.insert(file.end(), header.begin(), header.end());
  file.insert(file.end(), tree.begin(), tree.end());
  return file;
}

// A file that is read back as an image of `size` bytes of SquashFS, `offset` bytes into it.
class File {
 public:
  explicit File(std::span<const std::byte> bytes) {
    std::ofstream(directory_ / "x", std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    fd_ = UniqueFd(::open((directory_ / "x").c_str(), O_RDONLY | O_CLOEXEC));
  }
  [[nodiscard]] std::optional<MerkleTree> tree(std::uint64_t size, std::uint64_t offset = 0) const {
    return MerkleTree::read(fd_.get(), offset, size, "x");
  }
  [[nodiscard]] int descriptor() const { return fd_.get(); }

 private:
  TemporaryDirectory directory_;
  UniqueFd fd_;
};

}  // namespace

TEST_CASE("a Merkle tree holds for each range of what it is of, at every depth") {
  // One block (no tree at all), two, one more than a block of hashes, three levels.
  for (const std::size_t blocks : {1U, 2U, 128U, 129U, 128U * 128U + 1U}) {
    INFO(blocks);
    const auto data = noise(blocks * 4096);
    const File file(sealed(data));
    const auto tree = file.tree(data.size() - 100);
    REQUIRE(tree);
    CHECK(tree->trailer().data_size == data.size());
    CHECK_FALSE(tree->trailer().signature);
    tree->check_all(file.descriptor(), 0);
    for (const std::size_t position : {std::size_t{0}, std::size_t{4095}, data.size() - 5000}) {
      if (position >= data.size()) continue;
      const auto range =
          tree->covering(position, std::min<std::size_t>(4100, data.size() - position));
      CHECK(range.position % 4096 == 0);
      CHECK(range.position <= position);
      std::vector<std::byte> part(
          data.begin() + static_cast<std::ptrdiff_t>(range.position),
          data.begin() + static_cast<std::ptrdiff_t>(range.position + range.length));
      tree->check(range.position, part);
      part[part.size() / 2] ^= std::byte{1};
      try {
        tree->check(range.position, part);
        FAIL("a changed bit was not seen");
      } catch (const Error& error) {
        CHECK(error.code() == ExitCode::kVerification);
        CHECK(error.error_number() == EIO);
      }
    }
  }
}

TEST_CASE("a tree is found where the image begins inside of a file") {
  const auto data = noise(3 * 4096);
  std::vector<std::byte> bytes(8192);
  const auto image = sealed(data);
  bytes.insert(bytes.end(), image.begin(), image.end());
  const File file(bytes);
  REQUIRE(file.tree(data.size(), 8192));
  file.tree(data.size(), 8192)->check_all(file.descriptor(), 8192);
}

TEST_CASE("an image without a trailer has no tree") {
  const auto data = noise(4 * 4096);
  CHECK_FALSE(File(data).tree(4096));
  CHECK_FALSE(File(data).tree(data.size()));
  CHECK_FALSE(File({}).tree(0));
}

TEST_CASE("no changed bit of a trailer or of the data is believed, and none does harm") {
  const auto data = noise(300 * 4096);
  const auto good = sealed(data);
  std::mt19937 random(11);
  const auto refused = [&](const std::vector<std::byte>& bytes) {
    const File file(bytes);
    try {
      const auto tree = file.tree(data.size());
      if (!tree) return true;  // No trailer any more: whoever wants one will say so.
      tree->check_all(file.descriptor(), 0);
      return false;
    } catch (const Error& error) {
      return error.code() == ExitCode::kVerification || error.code() == ExitCode::kBadImage;
    }
  };
  CHECK_FALSE(refused(good));
  // Every byte of the header that means something, but the signature's.
  for (std::size_t i = 0; i < 324; ++i) {
    INFO(i);
    auto bytes = good;
    bytes[data.size() + i] ^= static_cast<std::byte>(1 + random() % 255);
    // A signature of the kind that there is changes nothing about the bytes: it is checked by key.
    if (i == 320 && bytes[data.size() + i] == std::byte{1}) continue;
    CHECK(refused(bytes));
  }
  for (int round = 0; round < 200; ++round) {
    auto bytes = good;
    const std::size_t at = random() % bytes.size();
    const bool unused = at >= data.size() + 324 && at < data.size() + Trailer::kSize;
    bytes[at] ^= std::byte{0x10};
    INFO(at);
    if (!unused) CHECK(refused(bytes));
  }
  // Cut anywhere.
  for (const std::size_t size : {data.size() + 8, data.size() + 4095, data.size() + 4096,
                                 good.size() - 4096, good.size() - 1}) {
    CHECK(refused({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}));
  }
}

TEST_CASE("a trailer that promises the impossible is refused before memory is taken") {
  Trailer trailer;
  trailer.data_size = std::uint64_t{1} << 62;
  trailer.tree_size = merkle_tree_size(trailer.data_size);
  const auto header = format_trailer(trailer);
  CHECK_THROWS_AS(parse_trailer(header, 4096, "x"), Error);
  CHECK_FALSE(parse_trailer({}, 0, "x"));
  CHECK_THROWS_AS(parse_trailer(std::span(header).first(100), trailer.data_size, "x"), Error);
}
