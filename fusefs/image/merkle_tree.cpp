#include "fusefs/image/merkle_tree.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fusefs/image/bytes.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram {
namespace {

constexpr std::string_view kMagic = "PYRAMVTY";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kHashSize = sizeof(Sha256);
constexpr std::uint64_t kHashesPerBlock = Trailer::kBlockSize / kHashSize;
// Positions in the header.
constexpr std::size_t kVersionAt = 8;
constexpr std::size_t kSizeAt = 12;
constexpr std::size_t kDataSizeAt = 16;
constexpr std::size_t kTreeSizeAt = 24;
constexpr std::size_t kDescriptorAt = 32;
constexpr std::size_t kDigestAt = 288;
constexpr std::size_t kSignatureKindAt = 320;
constexpr std::size_t kSignatureAt = 328;
constexpr std::size_t kKeyAt = 392;
constexpr std::uint32_t kEd25519 = 1;
// Position of the root's hash in fs-verity's descriptor.
constexpr std::size_t kRootInDescriptor = 16;

template <std::size_t Size>
std::array<std::byte, Size> load(std::span<const std::byte> bytes, std::size_t position) {
  std::array<std::byte, Size> result{};
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(position), Size, result.begin());
  return result;
}

void store(std::span<std::byte> bytes, std::size_t position, std::span<const std::byte> value) {
  std::copy(value.begin(), value.end(), bytes.begin() + static_cast<std::ptrdiff_t>(position));
}

void store_number(std::span<std::byte> bytes, std::size_t position, std::uint64_t value,
                  std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    bytes[position + i] = static_cast<std::byte>(value >> 8 * i);
}

std::uint64_t blocks_of(std::uint64_t bytes) {
  return bytes / Trailer::kBlockSize + (bytes % Trailer::kBlockSize != 0 ? 1 : 0);
}

// How many blocks each level of a tree has, the hashes of the data first.
std::vector<std::uint64_t> levels_of(std::uint64_t data_size) {
  std::vector<std::uint64_t> result;
  std::uint64_t blocks = blocks_of(data_size);
  while (blocks > 1) {
    blocks = (blocks + kHashesPerBlock - 1) / kHashesPerBlock;
    result.push_back(blocks);
  }
  return result;
}

Sha256 hash_of(std::span<const std::byte> block) {
  return sha256(block, Trailer::kBlockSize - block.size());
}

Error differs(const std::string& name, const std::string& what) {
  return {ExitCode::kVerification,
          "the image " + name + " is not what was made: " + what +
              " differs from its Merkle tree; copy or build it again",
          EIO};
}

}  // namespace

std::uint64_t trailer_position(std::uint64_t squashfs_size) {
  return blocks_of(squashfs_size) * Trailer::kBlockSize;
}

std::uint64_t merkle_tree_size(std::uint64_t data_size) {
  std::uint64_t blocks = 0;
  for (const std::uint64_t level : levels_of(data_size)) blocks += level;
  return blocks * Trailer::kBlockSize;
}

std::array<std::byte, Trailer::kDescriptorSize> verity_descriptor(std::uint64_t data_size,
                                                                  const Sha256& root) {
  std::array<std::byte, Trailer::kDescriptorSize> result{};
  result[0] = std::byte{1};   // Version.
  result[1] = std::byte{1};   // SHA-256.
  result[2] = std::byte{12};  // Blocks of 1 << 12 bytes.
  store_number(result, 8, data_size, 8);
  store(result, kRootInDescriptor, root);
  return result;
}

std::vector<std::byte> signed_text(const Sha256& digest) {
  constexpr std::string_view kHead("FSVerity\x01\x00\x20\x00", 12);  // The hash's kind and size.
  std::vector<std::byte> result(kHead.size() + digest.size());
  store(result, 0, std::as_bytes(std::span(kHead)));
  store(result, kHead.size(), digest);
  return result;
}

std::array<std::byte, Trailer::kSize> format_trailer(const Trailer& trailer) {
  std::array<std::byte, Trailer::kSize> result{};
  store(result, 0, std::as_bytes(std::span(kMagic)));
  store_number(result, kVersionAt, kVersion, 4);
  store_number(result, kSizeAt, Trailer::kSize, 4);
  store_number(result, kDataSizeAt, trailer.data_size, 8);
  store_number(result, kTreeSizeAt, trailer.tree_size, 8);
  store(result, kDescriptorAt, verity_descriptor(trailer.data_size, trailer.root));
  store(result, kDigestAt, trailer.digest);
  if (trailer.signature) {
    store_number(result, kSignatureKindAt, kEd25519, 4);
    store(result, kSignatureAt, trailer.signature->bytes);
    store(result, kKeyAt, trailer.signature->key);
  }
  return result;
}

std::optional<Trailer> parse_trailer(std::span<const std::byte> bytes, std::uint64_t position,
                                     const std::string& name) {
  const auto magic = std::as_bytes(std::span(kMagic));
  if (bytes.size() < magic.size() || !std::equal(magic.begin(), magic.end(), bytes.begin())) {
    return std::nullopt;
  }
  const auto bad = [&](std::string_view why) {
    return Error(ExitCode::kBadImage, "cannot check the image " + name + ": its trailer " +
                                          std::string(why) + "; copy or build it again");
  };
  if (bytes.size() < Trailer::kSize) throw bad("is cut");
  if (load_le<std::uint32_t>(bytes, kVersionAt) != kVersion ||
      load_le<std::uint32_t>(bytes, kSizeAt) != Trailer::kSize) {
    throw bad("is of a kind that this version does not know");
  }
  Trailer trailer;
  trailer.data_size = load_le<std::uint64_t>(bytes, kDataSizeAt);
  trailer.tree_size = load_le<std::uint64_t>(bytes, kTreeSizeAt);
  if (trailer.data_size != position) throw bad("belongs to another image");
  if (trailer.tree_size != merkle_tree_size(position)) throw bad("has a tree of a wrong size");
  trailer.root = load<sizeof(Sha256)>(bytes, kDescriptorAt + kRootInDescriptor);
  trailer.digest = load<sizeof(Sha256)>(bytes, kDigestAt);
  // Whatever else a descriptor could say (a salt, other hashes) is nothing that we write.
  const auto descriptor = verity_descriptor(trailer.data_size, trailer.root);
  if (load<Trailer::kDescriptorSize>(bytes, kDescriptorAt) != descriptor ||
      sha256(descriptor) != trailer.digest) {
    throw differs(name, "the descriptor");
  }
  const auto kind = load_le<std::uint32_t>(bytes, kSignatureKindAt);
  if (kind > kEd25519) throw bad("has a signature of an unknown kind");
  if (kind == kEd25519) {
    trailer.signature = {load<64>(bytes, kSignatureAt), load<32>(bytes, kKeyAt)};
  }
  return trailer;
}

MerkleTree::MerkleTree(const Trailer& trailer, std::vector<std::byte> leaves, std::string name)
    : trailer_(trailer), leaves_(std::move(leaves)), name_(std::move(name)) {}

std::optional<MerkleTree> MerkleTree::read(int descriptor, std::uint64_t offset,
                                           std::uint64_t squashfs_size, const std::string& name) {
  const std::uint64_t position = trailer_position(squashfs_size);
  std::vector<std::byte> header(Trailer::kSize);
  header.resize(pread_full(descriptor, header, offset + position));
  const std::optional<Trailer> trailer = parse_trailer(header, position, name);
  if (!trailer) return std::nullopt;

  // The size was compared with that of the image, so a hostile one can't have us take more memory
  // than a hundredth of the file.
  std::vector<std::byte> tree(trailer->tree_size);
  if (pread_full(descriptor, tree, offset + position + Trailer::kSize) != tree.size()) {
    throw Error(ExitCode::kBadImage, "cannot check the image " + name +
                                         ": its Merkle tree is cut; copy or build it again");
  }
  // In the file the root's level comes first; each level's hashes are those of the next one's
  // blocks.
  std::vector<std::byte> expected(trailer->root.begin(), trailer->root.end());
  std::vector<std::uint64_t> levels = levels_of(trailer->data_size);
  std::reverse(levels.begin(), levels.end());
  std::span<const std::byte> rest(tree);
  for (const std::uint64_t blocks : levels) {
    const auto level = rest.first(blocks * Trailer::kBlockSize);
    rest = rest.subspan(level.size());
    for (std::uint64_t i = 0; i < blocks; ++i) {
      const Sha256 hash = hash_of(level.subspan(i * Trailer::kBlockSize, Trailer::kBlockSize));
      if (!std::equal(hash.begin(), hash.end(),
                      expected.begin() + static_cast<std::ptrdiff_t>(i * kHashSize))) {
        throw differs(name, "a part of the tree");
      }
    }
    expected.assign(level.begin(), level.end());
  }
  return MerkleTree(*trailer, std::move(expected), name);
}

MerkleTree::Range MerkleTree::covering(std::uint64_t position, std::uint64_t length) const {
  constexpr std::uint64_t kMask = Trailer::kBlockSize - 1;
  const std::uint64_t begin = position & ~kMask;
  const std::uint64_t end = std::min((position + length + kMask) & ~kMask, trailer_.data_size);
  return {begin, end - begin};
}

void MerkleTree::check(std::uint64_t position, std::span<const std::byte> bytes) const {
  for (std::uint64_t block = position / Trailer::kBlockSize; !bytes.empty(); ++block) {
    const auto part = bytes.first(std::min(bytes.size(), Trailer::kBlockSize));
    bytes = bytes.subspan(part.size());
    const std::uint64_t at = block * kHashSize;
    const Sha256 hash = hash_of(part);
    if (at + kHashSize > leaves_.size() ||
        !std::equal(hash.begin(), hash.end(), leaves_.begin() + static_cast<std::ptrdiff_t>(at))) {
      throw differs(name_, "the block at byte " + std::to_string(block * Trailer::kBlockSize));
    }
  }
}

void MerkleTree::check_all(int descriptor, std::uint64_t offset) const {
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (std::uint64_t position = 0; position < trailer_.data_size; position += buffer.size()) {
    const std::uint64_t wanted =
        std::min<std::uint64_t>(buffer.size(), trailer_.data_size - position);
    const auto part = std::span(buffer).first(wanted);
    if (pread_full(descriptor, part, offset + position) != wanted) {
      throw Error(ExitCode::kBadImage,
                  "the image " + name_ + " is truncated; copy or build it again", EIO);
    }
    check(position, part);
  }
}

}  // namespace pyram
