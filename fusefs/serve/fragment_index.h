// Which files share a fragment block, as far as the kernel knows them.
//
// Files that lie side by side in an image are mostly read one after another: a package's modules, a
// whole tree. Each would be a request of its own, though the block is decompressed already. So once
// a few files of a block were read, the rest of those that the kernel has names for is put into its
// page cache (block_filler.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "fusefs/image/types.h"
#include "fusefs/serve/extent_mapper.h"
#include "support/locks.h"

namespace pyram {

// Thread-safe. Only a short cut: it may forget everything at any time.
class FragmentIndex {
 public:
  // How many files of a block have to be read before the others are worth the memory.
  static constexpr unsigned kReads = 3;

  explicit FragmentIndex(std::uint32_t block_size) : block_size_(block_size) {}

  // The kernel is told of the file. Cheap.
  void note(InodeRef file, const Attributes& attributes);

  // A tail in that block was read: the tails that are to be stored now, mostly none. Each is given
  // once.
  [[nodiscard]] std::vector<ExtentPlace> note_read(std::uint32_t fragment);

  void clear();

 private:
  static constexpr std::size_t kMostFiles = 16384;  // 256 KiB of tails.

  struct Fragment {
    std::vector<ExtentPlace> tails;
    unsigned reads = 0;
  };
  const std::uint32_t block_size_;
  Mutex mutex_;
  std::unordered_map<std::uint32_t, Fragment> fragments_ PYRAM_GUARDED_BY(mutex_);
  std::size_t files_ PYRAM_GUARDED_BY(mutex_) = 0;
};

}  // namespace pyram
