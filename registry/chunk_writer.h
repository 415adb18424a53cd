// Takes bytes of an image as they come, and believes none that it has not checked.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fusefs/image/merkle_tree.h"
#include "registry/lazy_image.h"

namespace pyram::registry {

// A chunk that is whole is checked against the Merkle tree, written, and noted when it is on the
// disk. Chunks that are here already, and all that follows the data, are passed over. Not
// thread-safe; several may write into one image.
class ChunkWriter {
 public:
  // `noted` is called for each chunk that is here from then on; `is_urgent` says whether somebody
  // waits. The references have to outlive the writer.
  ChunkWriter(const LazyImage& image, const MerkleTree& tree,
              std::function<void(std::uint32_t chunk)> noted, std::function<bool()> is_urgent);

  // Bytes that follow those taken before, or begin a chunk. One that is not the image's is left
  // out. Throws Error (kCannotWrite).
  void take(std::uint64_t position, std::span<const std::byte> bytes);
  // Has on the disk, and noted, what was written. Throws Error (kCannotWrite).
  void flush();
  // Throws Error (kVerification) where a chunk was left out.
  void refuse_wrong_bytes() const;

 private:
  void finish_chunk(std::uint32_t chunk);

  const LazyImage& image_;
  const MerkleTree& tree_;
  const std::function<void(std::uint32_t)> noted_;
  const std::function<bool()> is_urgent_;
  std::uint64_t begin_ = 0;  // Position of what is in buffer_.
  std::vector<std::byte> buffer_;
  std::vector<std::uint32_t> written_;  // And not noted yet.
  std::string wrong_;                   // What was left out.
};

}  // namespace pyram::registry
