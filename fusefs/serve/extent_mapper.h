// From a file's range to the bytes of the blocks that it lies in.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>

#include "fusefs/image/extent.h"
#include "fusefs/image/image.h"
#include "fusefs/serve/block_cache.h"
#include "support/locks.h"

namespace pyram {

// Puts bytes into the kernel's cache of a file. Thread-safe.
using StorePages = std::function<void(InodeRef, std::uint64_t, std::span<const std::byte>)>;

// What extent_at() finds an extent by.
struct ExtentPlace {
  InodeRef file;
  std::uint64_t offset = 0;  // Of its first byte, in the file.

  friend bool operator==(const ExtentPlace&, const ExtentPlace&) = default;
};

// Thread-safe. Lock order: mutex_ is not held while anything is read.
class ExtentMapper {
 public:
  // Both have to outlive the mapper.
  ExtentMapper(const Image& image, BlockCache& cache) : image_(image), cache_(cache) {}

  // The extent that the byte at `offset` is in. Throws Error (image.h's file_map).
  [[nodiscard]] Extent extent_at(InodeRef file, std::uint64_t offset);

  // The block of an extent that is no hole. Throws Error where bytes_of() would.
  [[nodiscard]] BlockCache::Pin pin(const Extent& extent);
  [[nodiscard]] static std::span<const std::byte> bytes(const Extent& extent,
                                                        const BlockCache::Pin& pin) {
    return bytes_of(extent, pin.bytes());
  }

  // Give back the memory of what is only kept for speed.
  void forget_maps();
  void forget_blocks() { cache_.release_idle(); }

 private:
  // Maps are small for most files, 16 KiB for a stretch of 128 MiB: at most 1 MiB in all.
  static constexpr std::size_t kMaps = 64;
  struct Entry {
    InodeRef file;
    std::shared_ptr<const FileMap> map;
  };

  [[nodiscard]] std::shared_ptr<const FileMap> map_of(InodeRef file, std::uint64_t offset);

  const Image& image_;
  BlockCache& cache_;
  Mutex mutex_;
  // The one used last comes first.
  std::list<Entry> recent_ PYRAM_GUARDED_BY(mutex_);
};

}  // namespace pyram
