// What stands behind an image's last byte: a Merkle tree of the image, as fs-verity makes it, and a
// signature. By it, a range of the image can be checked when it is read, without reading the rest.
//
// The bytes are described in docs/image-format.md. Everything read from the file is checked before
// it is used: the trailer may come from anywhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fusefs/image/sha256.h"

namespace pyram {

// The header of a trailer, as it stands in the file.
struct Trailer {
  static constexpr std::size_t kSize = 4096;       // Of the header.
  static constexpr std::size_t kBlockSize = 4096;  // What has a hash of its own.
  static constexpr std::size_t kDescriptorSize = 256;

  std::uint64_t data_size = 0;  // Bytes that the tree is of; the header follows them.
  std::uint64_t tree_size = 0;  // Bytes of the tree; it follows the header.
  Sha256 root{};                // Hash of the tree's first block.
  Sha256 digest{};              // What fs-verity calls the file's digest.
  struct Signature {
    std::array<std::byte, 64> bytes{};
    std::array<std::byte, 32> key{};  // The public key that it is said to be by.
  };
  std::optional<Signature> signature;
};

// Where a trailer begins, when there is one: behind the SquashFS, at a whole block.
[[nodiscard]] std::uint64_t trailer_position(std::uint64_t squashfs_size);

// How large the tree of so many bytes is.
[[nodiscard]] std::uint64_t merkle_tree_size(std::uint64_t data_size);

// fs-verity's descriptor of a file, whose hash is the file's digest.
[[nodiscard]] std::array<std::byte, Trailer::kDescriptorSize> verity_descriptor(
    std::uint64_t data_size, const Sha256& root);

// What is signed: fs-verity's form of a digest.
[[nodiscard]] std::vector<std::byte> signed_text(const Sha256& digest);

// A header's bytes, for writing an image.
[[nodiscard]] std::array<std::byte, Trailer::kSize> format_trailer(const Trailer& trailer);

// Reads a header that stands `position` bytes into an image; nothing where these bytes are none.
// Throws Error (kBadImage) for one that makes no sense. `name` is for messages, quoted.
[[nodiscard]] std::optional<Trailer> parse_trailer(std::span<const std::byte> bytes,
                                                   std::uint64_t position, const std::string& name);

// A tree whose hashes have been checked against its root. Immutable: all functions are thread-safe.
class MerkleTree {
 public:
  // Reads and checks the tree of the image that begins `offset` bytes into the file and whose
  // SquashFS has `squashfs_size` bytes. Nothing when the image has no trailer. Throws Error:
  // kBadImage for a trailer that makes no sense or is cut, kVerification when a hash differs.
  // `name` is for messages, quoted.
  [[nodiscard]] static std::optional<MerkleTree> read(int descriptor, std::uint64_t offset,
                                                      std::uint64_t squashfs_size,
                                                      const std::string& name);

  [[nodiscard]] const Trailer& trailer() const { return trailer_; }

  // The whole blocks that `length` bytes at `position` of the image lie in: what has to be read to
  // check them. Cut where the image ends. REQUIRES: the bytes lie within data_size.
  struct Range {
    std::uint64_t position = 0;
    std::uint64_t length = 0;
  };
  [[nodiscard]] Range covering(std::uint64_t position, std::uint64_t length) const;

  // Throws Error (kVerification, EIO) unless `bytes` are the image's at `position`.
  // REQUIRES: a range that covering() gave.
  void check(std::uint64_t position, std::span<const std::byte> bytes) const;

  // As check(), of the whole image.
  void check_all(int descriptor, std::uint64_t offset) const;

 private:
  MerkleTree(const Trailer& trailer, std::vector<std::byte> leaves, std::string name);

  Trailer trailer_;
  std::vector<std::byte> leaves_;  // The hash of each block of the image, one after the other.
  std::string name_;
};

}  // namespace pyram
