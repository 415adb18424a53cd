#include "fusefs/serve/block_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "support/error.h"

namespace pyram {

BlockCache::BlockCache(const Image& image, Statistics& statistics, std::size_t bytes,
                       std::size_t readers, bool drop_stored)
    : image_(image),
      statistics_(statistics),
      drop_stored_(drop_stored),
      slot_size_(image.superblock().block_size),
      slots_(std::max(bytes / slot_size_, readers * kPinsPerReader)) {
  void* const mapping = ::mmap(nullptr, slots_.size() * slot_size_, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    throw system_error(ExitCode::kFailed, errno, "reserve the block cache",
                       "give a smaller --cache-size");
  }
  arena_ = static_cast<std::byte*>(mapping);
  index_.reserve(slots_.size());
  for (std::size_t slot = slots_.size(); slot-- > 0;) {
    empty_.push_back(slot);
    slots_[slot].place = others_.insert(others_.end(), slot);
  }
}

BlockCache::~BlockCache() { ::munmap(arena_, slots_.size() * slot_size_); }

BlockCache::Pin BlockCache::get(const Block& block) {
  // Before it takes a slot: who joins a reader must not wait for the network with it.
  image_.await(block);
  const Key key = key_of(block);
  Lock lock(mutex_);
  for (;;) {
    if (const auto found = index_.find(key); found != index_.end()) {
      Slot& slot = slots_[found->second];
      if (slot.state == State::kReady) {
        if (slot.pins++ == 0) others_.splice(others_.end(), list_of(slot), slot.place);
        statistics_.cache_hits.add();
        return {this, found->second, memory(found->second).first(slot.size), false};
      }
      statistics_.cache_joins.add();
      slot.filled.wait(lock.waitable(),
                       [&] { return slot.state != State::kFilling || slot.key != key; });
      continue;
    }
    const std::size_t number = take_slot(lock);
    // Waiting for a slot let go of the lock.
    if (index_.contains(key)) {
      empty_.push_back(number);
      slot_free_.notify_one();
      continue;
    }
    try {
      index_[key] = number;
    } catch (...) {
      empty_.push_back(number);
      slot_free_.notify_one();
      throw;
    }
    Slot& slot = slots_[number];
    slot.state = State::kFilling;
    slot.key = key;
    slot.pins = 1;
    slot.spent = false;
    lock.unlock();
    fill(number, block);
    return {this, number, memory(number).first(slot.size), true};
  }
}

std::size_t BlockCache::take_slot(Lock& lock) {
  slot_free_.wait(lock.waitable(), [&]() PYRAM_REQUIRES(mutex_) {
    return !empty_.empty() || !unused_.empty() || !spent_.empty();
  });
  if (spent_.size() > kSpentKept) return evict(spent_);
  if (!empty_.empty()) {
    const std::size_t number = empty_.back();
    empty_.pop_back();
    return number;
  }
  return evict(spent_.empty() ? unused_ : spent_);
}

std::size_t BlockCache::evict(std::list<std::size_t>& from) {
  const std::size_t number = from.back();
  Slot& slot = slots_[number];
  others_.splice(others_.end(), from, slot.place);
  index_.erase(slot.key);
  slot.state = State::kEmpty;
  statistics_.cache_bytes -= slot.size;
  return number;
}

void BlockCache::fill(std::size_t number, const Block& block) {
  Slot& slot = slots_[number];
  std::size_t size = 0;
  try {
    size = image_.read_block(block, memory(number));
  } catch (...) {
    const Lock lock(mutex_);
    index_.erase(slot.key);
    slot.state = State::kEmpty;
    slot.pins = 0;
    empty_.push_back(number);
    slot.filled.notify_all();
    slot_free_.notify_one();
    throw;
  }
  if (drop_stored_) image_.forget_stored(block);
  statistics_.blocks_decompressed.add();
  statistics_.bytes_read.add(block.stored_size);
  statistics_.bytes_decompressed.add(size);
  const Lock lock(mutex_);
  slot.size = size;
  slot.state = State::kReady;
  statistics_.cache_bytes += size;
  slot.filled.notify_all();
}

void BlockCache::unpin(std::size_t number) {
  const Lock lock(mutex_);
  Slot& slot = slots_[number];
  if (--slot.pins > 0) return;
  std::list<std::size_t>& to = list_of(slot);
  to.splice(to.begin(), others_, slot.place);
  slot_free_.notify_one();
}

void BlockCache::set_spent(std::size_t number) {
  const Lock lock(mutex_);
  slots_[number].spent = true;
}

void BlockCache::release_idle() {
  const Lock lock(mutex_);
  for (std::list<std::size_t>* const list : {&unused_, &spent_}) {
    while (!list->empty()) empty_.push_back(evict(*list));
  }
  std::ranges::sort(empty_, std::greater<>());
  for (const std::size_t number : empty_) {
    ::madvise(memory(number).data(), slot_size_, MADV_DONTNEED);
  }
}

}  // namespace pyram
