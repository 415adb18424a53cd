// Where listings of directories stopped, so that the next request for one goes on there instead of
// searching its place from the start: 50,000 names take some 500 requests.
#pragma once

#include <cstdint>
#include <list>

#include "fusefs/image/image.h"
#include "support/locks.h"

namespace pyram {

// Thread-safe. Only a short cut: what is not in it is looked up in the image.
class ListingCache {
 public:
  // Takes the cursor out, or opens one.
  [[nodiscard]] ListingCursor take(const Image& image, InodeRef directory, std::uint64_t offset) {
    if (offset > 0) {
      const Lock lock(mutex_);
      for (auto entry = recent_.begin(); entry != recent_.end(); ++entry) {
        if (entry->directory != directory || entry->cursor.offset != offset) continue;
        ListingCursor cursor = std::move(entry->cursor);
        recent_.erase(entry);
        return cursor;
      }
    }
    return image.open_listing(directory, offset);
  }

  void put(InodeRef directory, ListingCursor cursor) {
    if (cursor.offset >= cursor.end) return;
    const Lock lock(mutex_);
    recent_.push_front({directory, std::move(cursor)});
    if (recent_.size() > kEntries) recent_.pop_back();
  }

  void clear() {
    const Lock lock(mutex_);
    recent_.clear();
  }

 private:
  static constexpr std::size_t kEntries = 16;
  struct Entry {
    InodeRef directory;
    ListingCursor cursor;
  };
  Mutex mutex_;
  std::list<Entry> recent_ PYRAM_GUARDED_BY(mutex_);
};

}  // namespace pyram
