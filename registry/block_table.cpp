#include "registry/block_table.h"

#include <algorithm>
#include <cstring>

#include "fusefs/image/bytes.h"
#include "fusefs/image/sha256.h"
#include "support/error.h"

namespace pyram::registry {
namespace {

constexpr std::string_view kMagic = "PYRAMBLK";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderSize = 32;
constexpr std::size_t kEntrySize = 4 + sizeof(BlockHash);

template <std::unsigned_integral T>
void store_le(std::string& text, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    text.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
  }
}

Error bad_table(const std::string& why) {
  return {ExitCode::kBadSource, "cannot use a table of blocks: " + why};
}

}  // namespace

BlockHash hash_of_block(std::span<const std::byte> bytes) {
  const Sha256 whole = sha256(bytes);
  BlockHash result;
  std::copy_n(whole.begin(), result.size(), result.begin());
  return result;
}

std::string format_block_table(const BlockTable& table) {
  std::string text(kMagic);
  store_le(text, kVersion);
  store_le(text, static_cast<std::uint32_t>(sizeof(BlockHash)));
  store_le(text, table.size);
  store_le(text, static_cast<std::uint64_t>(table.blocks.size()));
  for (const BlockEntry& block : table.blocks) {
    store_le(text, block.length);
    text.append(reinterpret_cast<const char*>(block.hash.data()), block.hash.size());
  }
  return text;
}

BlockTable parse_block_table(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  if (bytes.size() < kHeaderSize || !text.starts_with(kMagic)) throw bad_table("it is none");
  if (load_le<std::uint32_t>(bytes, 8) != kVersion ||
      load_le<std::uint32_t>(bytes, 12) != sizeof(BlockHash)) {
    throw bad_table("it is of a version that this program does not know");
  }
  BlockTable table;
  table.size = load_le<std::uint64_t>(bytes, 16);
  const auto count = load_le<std::uint64_t>(bytes, 24);
  if (count > BlockTable::kMostBlocks || bytes.size() != kHeaderSize + count * kEntrySize) {
    throw bad_table("it has another length than it says");
  }
  table.blocks.resize(count);
  std::uint64_t position = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto entry = bytes.subspan(kHeaderSize + i * kEntrySize, kEntrySize);
    BlockEntry& block = table.blocks[i];
    block.position = position;
    block.length = load_le<std::uint32_t>(entry, 0);
    if (block.length == 0 || block.length > BlockTable::kLongestBlock) {
      throw bad_table("a block in it has an impossible length");
    }
    std::memcpy(block.hash.data(), entry.data() + 4, block.hash.size());
    position += block.length;
  }
  if (position != table.size) throw bad_table("its blocks are not the whole image");
  return table;
}

}  // namespace pyram::registry
