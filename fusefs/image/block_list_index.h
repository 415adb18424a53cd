// Where the blocks of large files lie: a block's place is the sum of the sizes of all before it,
// and this remembers some of the sums, so that a read far into a file adds up a few.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <vector>

#include "fusefs/image/types.h"
#include "support/locks.h"

namespace pyram {

// Thread-safe. Bounded: the files read last have kPlaces each at most, further apart the larger the
// file is; 384 KiB in all.
class BlockListIndex {
 public:
  static constexpr std::size_t kFiles = 8;
  static constexpr std::size_t kPlaces = 2048;

  // Where a stretch of a file's blocks begins (FileMap; the first has no place here).
  struct Place {
    std::uint64_t list_block = 0;   // In the block list: the metadata block ...
    std::uint32_t list_offset = 0;  // ... and the byte of it.
    std::uint64_t position = 0;     // Of the stretch's first block, in the image.
  };
  struct Found {
    std::uint64_t stretch = 0;
    Place place;
  };

  // The last known place that is not behind `stretch`, if there is one.
  [[nodiscard]] std::optional<Found> find(InodeRef file, std::uint64_t stretch);
  // To be called for all stretches that are passed on the way from a known place to a later one, in
  // their order: what doesn't follow the known ones is not kept.
  void add(InodeRef file, std::uint64_t stretch, const Place& place);
  void clear();

 private:
  struct File {
    InodeRef inode;
    std::uint64_t distance = 1;  // places[i] is that of stretch (i + 1) * distance.
    std::vector<Place> places;
  };

  // Null where nothing is known of it.
  [[nodiscard]] File* known(InodeRef file) PYRAM_REQUIRES(mutex_);

  Mutex mutex_;
  // The one used last comes first.
  std::list<File> recent_ PYRAM_GUARDED_BY(mutex_);
};

}  // namespace pyram
