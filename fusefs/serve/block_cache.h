// Decompressed blocks: those that threads wait for, and those used last.
//
// It is not where data is kept for later: that is the kernel's page cache. It exists so that a
// block is decompressed once however many readers want parts of it, and one after another.
//
// Invariants: a block is in at most one slot; a slot that is pinned keeps its bytes; the memory in
// use is at most slots * block_size. Slots lie in one mapping of pages that are only touched when
// used and given back by release_idle(). Thread-safe. Lock order: only mutex_, never held while a
// block is read.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fusefs/image/image.h"
#include "fusefs/statistics.h"
#include "support/locks.h"

namespace pyram {

class BlockCache {
 public:
  // Readers of one cache may each hold this many pins at once without waiting for each other.
  static constexpr std::size_t kPinsPerReader = 2;

  // Keeps a block's bytes where they are for as long as it lives. Not thread-safe.
  class Pin {
   public:
    Pin(Pin&& other) noexcept
        : cache_(std::exchange(other.cache_, nullptr)),
          slot_(other.slot_),
          bytes_(other.bytes_),
          is_new_(other.is_new_) {}
    Pin& operator=(Pin&&) = delete;
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    ~Pin() {
      if (cache_ != nullptr) cache_->unpin(slot_);
    }
    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
    // Whether the block was decompressed for this pin.
    [[nodiscard]] bool is_new() const { return is_new_; }
    // The kernel has got what is wanted of the block. When its last pin has gone, its memory is
    // used again before any that wasn't used yet.
    void set_spent() { cache_->set_spent(slot_); }

   private:
    friend class BlockCache;
    Pin(BlockCache* cache, std::size_t slot, std::span<const std::byte> bytes, bool is_new)
        : cache_(cache), slot_(slot), bytes_(bytes), is_new_(is_new) {}
    BlockCache* cache_;
    std::size_t slot_;
    std::span<const std::byte> bytes_;
    bool is_new_;
  };

  // At most `bytes` of blocks, but never fewer than `readers` need at once. With `drop_stored` the
  // kernel is told to forget the image's own bytes of a block once they are read. `image` and
  // `statistics` have to outlive the cache. Throws Error when there is no address space.
  BlockCache(const Image& image, Statistics& statistics, std::size_t bytes, std::size_t readers,
             bool drop_stored = false);
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // The block's bytes: from the cache, from a decompression that is under way, or from a new one.
  // REQUIRES: the block is no hole; the caller holds fewer than kPinsPerReader pins.
  // Throws Error when the block cannot be read; a thread that waited for it then tries by itself.
  [[nodiscard]] Pin get(const Block& block);

  // Drops every block that is not pinned and gives the memory back to the system.
  void release_idle();

  [[nodiscard]] std::size_t capacity() const { return slots_.size() * slot_size_; }

 private:
  // Spent blocks that are kept nevertheless: a reader may have asked before the kernel had them.
  static constexpr std::size_t kSpentKept = 3;

  // Position, and the size field too: a hostile image may have two blocks at one place.
  struct Key {
    std::uint64_t position = 0;
    std::uint32_t size_field = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct HashKey {
    std::size_t operator()(const Key& key) const noexcept {
      return std::hash<std::uint64_t>{}(key.position * 31 + key.size_field);
    }
  };
  enum class State : std::uint8_t { kEmpty, kFilling, kReady };
  struct Slot {
    State state = State::kEmpty;
    Key key;
    std::size_t pins = 0;
    std::size_t size = 0;
    bool spent = false;
    // In unused_ or spent_ when ready and not pinned, otherwise in others_.
    std::list<std::size_t>::iterator place;
    std::condition_variable filled;
  };

  static Key key_of(const Block& block) {
    return {block.position, block.stored_size | (block.compressed ? 1U << 31 : 0U)};
  }
  [[nodiscard]] std::span<std::byte> memory(std::size_t slot) const {
    return {arena_ + slot * slot_size_, slot_size_};
  }
  // A free slot, out of the index; waits for one.
  std::size_t take_slot(Lock& lock) PYRAM_REQUIRES(mutex_);
  // Takes the block that was used first out of a list, which isn't empty.
  std::size_t evict(std::list<std::size_t>& from) PYRAM_REQUIRES(mutex_);
  [[nodiscard]] std::list<std::size_t>& list_of(const Slot& slot) PYRAM_REQUIRES(mutex_) {
    return slot.spent ? spent_ : unused_;
  }
  void fill(std::size_t slot, const Block& block);
  void unpin(std::size_t slot);
  void set_spent(std::size_t slot);

  const Image& image_;
  Statistics& statistics_;
  const bool drop_stored_;
  const std::size_t slot_size_;
  std::byte* arena_ = nullptr;

  Mutex mutex_;
  std::condition_variable slot_free_;
  // The vector stays as it is; the slots in it are guarded by mutex_.
  std::vector<Slot> slots_;
  // The lists, and the vector, have room for all slots: letting go of one takes no memory.
  // The lowest last: the arena is used from its start.
  std::vector<std::size_t> empty_ PYRAM_GUARDED_BY(mutex_);
  // Ready and not pinned; the one used last comes first.
  std::list<std::size_t> unused_ PYRAM_GUARDED_BY(mutex_);
  // The same of blocks that are spent.
  std::list<std::size_t> spent_ PYRAM_GUARDED_BY(mutex_);
  // The slots that are in neither, in no order.
  std::list<std::size_t> others_ PYRAM_GUARDED_BY(mutex_);
  std::unordered_map<Key, std::size_t, HashKey> index_ PYRAM_GUARDED_BY(mutex_);
};

}  // namespace pyram
