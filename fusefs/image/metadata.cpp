#include "fusefs/image/metadata.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fusefs/image/bytes.h"
#include "support/error.h"

namespace pyram {
namespace {

constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};
// Blocks that this thread may still have read (MetadataLimit).
thread_local std::uint64_t blocks_left = kNoLimit;

void count_block() {
  if (blocks_left == 0) {
    throw_corrupt("one request would have to go through more metadata than any sound file has");
  }
  if (blocks_left != kNoLimit) --blocks_left;
}

}  // namespace

MetadataLimit::MetadataLimit(std::uint64_t most) noexcept
    : outer_(std::exchange(blocks_left, most)) {}

MetadataLimit::~MetadataLimit() { blocks_left = outer_; }

void throw_corrupt(const std::string& what) {
  throw Error(ExitCode::kBadImage, "the image is corrupt: " + what + "; copy or build it again",
              EIO);
}

std::shared_ptr<const MetadataBlock> MetadataCache::get(std::uint64_t position) {
  {
    const Lock lock(mutex_);
    if (const auto found = index_.find(position); found != index_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return found->second->second;
    }
  }
  count_block();
  // Two threads may load the same block at once: that costs less than waiting in the common case.
  std::shared_ptr<const MetadataBlock> block = load(position);
  const Lock lock(mutex_);
  if (const auto found = index_.find(position); found != index_.end()) return found->second->second;
  recent_.emplace_front(position, block);
  try {
    index_[position] = recent_.begin();
  } catch (...) {
    recent_.pop_front();
    throw;
  }
  if (recent_.size() > kBlocks) {
    index_.erase(recent_.back().first);
    recent_.pop_back();
  }
  return block;
}

void MetadataCache::clear() {
  const Lock lock(mutex_);
  index_.clear();
  recent_.clear();
}

std::shared_ptr<const MetadataBlock> MetadataCache::load(std::uint64_t position) const {
  // One read for header and data: a block is never longer than this.
  std::array<std::byte, 2 + Superblock::kMetadataBlockSize> stored;
  if (position >= end_ || end_ - position < 3) throw_corrupt("metadata lies outside of it");
  const std::size_t wanted =
      static_cast<std::size_t>(std::min<std::uint64_t>(stored.size(), end_ - position));
  const std::size_t got = file_.read(std::span(stored).first(wanted), position);
  if (got < 3) throw_corrupt("metadata is cut at byte " + std::to_string(position));
  constexpr std::uint16_t kStoredAsIs = 0x8000;
  const auto header = load_le<std::uint16_t>(stored, 0);
  const std::size_t size = header & (kStoredAsIs - 1U);
  if (size == 0 || size > got - 2) {
    throw_corrupt("a metadata block at byte " + std::to_string(position) + " has a false length");
  }
  auto block = std::make_shared<MetadataBlock>();
  block->next = position + 2 + size;
  const std::span<const std::byte> data = std::span(stored).subspan(2, size);
  if ((header & kStoredAsIs) != 0) {
    std::ranges::copy(data, block->bytes.begin());
    block->size = static_cast<std::uint32_t>(size);
  } else {
    const auto decompressed = decompress_(data, block->bytes);
    if (!decompressed || *decompressed == 0) {
      throw_corrupt("metadata at byte " + std::to_string(position) + " cannot be decompressed");
    }
    block->size = static_cast<std::uint32_t>(*decompressed);
  }
  return block;
}

std::span<const std::byte> MetadataCursor::here() {
  if (!current_) {
    current_ = cache_->get(block_);
    if (offset_ > current_->size) throw_corrupt("metadata is referred to that is not there");
  }
  if (offset_ == current_->size) {
    block_ = current_->next;
    offset_ = 0;
    current_ = cache_->get(block_);
  }
  return std::span(current_->bytes).subspan(offset_, current_->size - offset_);
}

void MetadataCursor::read(std::span<std::byte> output) {
  while (!output.empty()) {
    const auto bytes = here();
    const std::size_t take = std::min(bytes.size(), output.size());
    std::memcpy(output.data(), bytes.data(), take);
    output = output.subspan(take);
    offset_ += static_cast<std::uint32_t>(take);
  }
}

void MetadataCursor::skip(std::uint64_t bytes) {
  while (bytes > 0) {
    const auto take = std::min<std::uint64_t>(here().size(), bytes);
    bytes -= take;
    offset_ += static_cast<std::uint32_t>(take);
  }
}

}  // namespace pyram
