// SquashFS metadata: blocks of 8 KiB, compressed one by one, that inodes, directories and tables
// are packed into without regard to block borders.
//
// Every position and length comes from the image and is checked before it is used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "fusefs/image/decompress.h"
#include "fusefs/image/image_file.h"
#include "fusefs/image/superblock.h"
#include "support/locks.h"

namespace pyram {

struct MetadataBlock {
  std::array<std::byte, Superblock::kMetadataBlockSize> bytes;
  std::uint32_t size = 0;  // Bytes used.
  std::uint64_t next = 0;  // Where the following block starts.
};

// Reads metadata blocks and keeps the ones that were used last. Thread-safe.
class MetadataCache {
 public:
  // 96 blocks are 768 KiB: as much as a start of Django touches of its image's metadata.
  static constexpr std::size_t kBlocks = 96;

  // `file` has to outlive the cache; `end` is the SquashFS's length.
  MetadataCache(const ImageFile& file, std::uint64_t end, Decompress decompress)
      : file_(file), end_(end), decompress_(decompress) {}

  // Throws Error (kBadImage) when there is no sound block at `position`.
  [[nodiscard]] std::shared_ptr<const MetadataBlock> get(std::uint64_t position);
  // Forgets all blocks.
  void clear();

 private:
  using Recent = std::list<std::pair<std::uint64_t, std::shared_ptr<const MetadataBlock>>>;

  [[nodiscard]] std::shared_ptr<const MetadataBlock> load(std::uint64_t position) const;

  const ImageFile& file_;
  const std::uint64_t end_;
  const Decompress decompress_;
  Mutex mutex_;  // Not held while a block is read.
  // The one used last comes first.
  Recent recent_ PYRAM_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, Recent::iterator> index_ PYRAM_GUARDED_BY(mutex_);
};

// While it lives, its thread may have kMost metadata blocks read and decompressed; asking for more
// throws Error (EIO). So no image can have one request go through all of its metadata. Where
// several live in a thread, the last one counts.
class MetadataLimit {
 public:
  // 128 MiB of metadata: the block list of a file of 4 TiB with the usual block size.
  static constexpr std::uint64_t kMost = 16384;

  explicit MetadataLimit(std::uint64_t most = kMost) noexcept;
  ~MetadataLimit();
  MetadataLimit(const MetadataLimit&) = delete;
  MetadataLimit& operator=(const MetadataLimit&) = delete;

 private:
  const std::uint64_t outer_;
};

// A place in the metadata that moves on as it is read. Not thread-safe; copies are independent.
class MetadataCursor {
 public:
  MetadataCursor(MetadataCache& cache, std::uint64_t block, std::uint32_t offset)
      : cache_(&cache), block_(block), offset_(offset) {}

  // Both throw Error (kBadImage) at the end of what there is.
  void read(std::span<std::byte> output);
  void skip(std::uint64_t bytes);

  // Where it is: a cursor that is made there reads the same.
  [[nodiscard]] std::uint64_t block() const { return block_; }
  [[nodiscard]] std::uint32_t offset() const { return offset_; }

  template <std::size_t N>
  [[nodiscard]] std::array<std::byte, N> read() {
    std::array<std::byte, N> output;
    read(std::span<std::byte>(output));
    return output;
  }

 private:
  // The bytes from here to the block's end, never none.
  [[nodiscard]] std::span<const std::byte> here();

  MetadataCache* cache_;
  std::uint64_t block_;
  std::uint32_t offset_;
  std::shared_ptr<const MetadataBlock> current_;
};

// The error that every finding of the image reader becomes.
[[noreturn]] void throw_corrupt(const std::string& what);

}  // namespace pyram
