#include "registry/chunk_writer.h"

#include <algorithm>
#include <utility>

#include "support/error.h"

namespace pyram::registry {
namespace {

// Between two syncs, where nobody waits.
constexpr std::size_t kMostUnsynced = 8;

}  // namespace

ChunkWriter::ChunkWriter(const LazyImage& image, const MerkleTree& tree,
                         std::function<void(std::uint32_t)> noted, std::function<bool()> is_urgent)
    : image_(image), tree_(tree), noted_(std::move(noted)), is_urgent_(std::move(is_urgent)) {}

void ChunkWriter::take(std::uint64_t position, std::span<const std::byte> bytes) {
  if (position != begin_ + buffer_.size()) {
    buffer_.clear();
    begin_ = position;
  }
  while (!bytes.empty() && position < image_.sizes().data_size) {
    const std::uint32_t chunk = image_.sizes().chunk_of(position);
    const ByteRange range = image_.range_of(chunk);
    const auto part = bytes.first(
        std::min<std::uint64_t>(bytes.size(), range.position + range.length - position));
    buffer_.insert(buffer_.end(), part.begin(), part.end());
    bytes = bytes.subspan(part.size());
    position += part.size();
    if (position == range.position + range.length) {
      // Nothing where it began in the midst of it.
      if (begin_ == range.position && !image_.is_here(chunk)) finish_chunk(chunk);
      buffer_.clear();
      begin_ = position;
    }
  }
  if (!bytes.empty()) {  // What follows the data.
    buffer_.clear();
    begin_ = position + bytes.size();
  }
}

void ChunkWriter::finish_chunk(std::uint32_t chunk) {
  if (std::ranges::find(written_, chunk) != written_.end()) return;
  try {
    tree_.check(begin_, buffer_);
  } catch (const Error&) {
    // Those behind it may be right.
    wrong_ = "bytes " + std::to_string(begin_) + " to " +
             std::to_string(begin_ + buffer_.size() - 1) + " came, and are not what was packed";
    return;
  }
  image_.write(begin_, buffer_);
  written_.push_back(chunk);
  if (written_.size() >= kMostUnsynced || is_urgent_()) flush();
}

void ChunkWriter::refuse_wrong_bytes() const {
  if (!wrong_.empty()) throw Error(ExitCode::kVerification, wrong_);
}

void ChunkWriter::flush() {
  if (written_.empty()) return;
  image_.sync();
  for (const std::uint32_t chunk : written_) {
    image_.note(chunk, true);
    noted_(chunk);
  }
  written_.clear();
  image_.announce();
}

}  // namespace pyram::registry
