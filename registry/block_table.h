// The table of an image's blocks: what a pull needs to find out which parts of a new image an old
// one has. docs/registry.md has its form. It is a hint: whoever uses one checks what comes of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pyram::registry {

// The first half of SHA-256. Nothing is trusted for having the right one.
using BlockHash = std::array<std::byte, 16>;
[[nodiscard]] BlockHash hash_of_block(std::span<const std::byte> bytes);

struct BlockEntry {
  std::uint64_t position = 0;
  std::uint32_t length = 0;
  BlockHash hash{};
};

// Of the whole file, one block behind the other.
struct BlockTable {
  static constexpr std::uint32_t kLongestBlock = 1U << 20;  // SquashFS has no longer ones.
  static constexpr std::size_t kMostBlocks = std::size_t{1} << 20;
  static constexpr std::size_t kLongestText = 32 + 20 * kMostBlocks;

  std::uint64_t size = 0;  // Of the image's file.
  std::vector<BlockEntry> blocks;
};

[[nodiscard]] std::string format_block_table(const BlockTable& table);
// Throws Error (kBadSource) for what is none.
[[nodiscard]] BlockTable parse_block_table(std::string_view text);

// Where an image's blocks lie, without their hashes: data, fragments, metadata, the Merkle tree;
// what else there is, in pieces. Throws Error (kBadImage).
[[nodiscard]] BlockTable cut_image(const std::filesystem::path& image);
// The same with hashes.
[[nodiscard]] BlockTable block_table_of(const std::filesystem::path& image);

}  // namespace pyram::registry
