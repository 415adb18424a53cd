#include "registry/trailer.h"

#include <algorithm>
#include <vector>

#include "image-builder/output/integrity.h"
#include "registry/chunk_writer.h"
#include "registry/range_request.h"
#include "support/error.h"

namespace pyram::registry {
namespace {

// Of the data's end: what a small image has of metadata.
constexpr std::uint32_t kChunksBefore = 4;

}  // namespace

std::optional<std::uint64_t> data_size_of(std::uint64_t size) {
  // The sum of data, header and tree grows with the data.
  constexpr std::uint64_t kBlock = Trailer::kBlockSize;
  const auto whole = [](std::uint64_t blocks) {
    return blocks * kBlock + Trailer::kSize + merkle_tree_size(blocks * kBlock);
  };
  std::uint64_t least = 1;
  std::uint64_t most = size / kBlock;
  while (least < most) {
    const std::uint64_t middle = least + (most - least) / 2;
    if (whole(middle) < size) {
      least = middle + 1;
    } else {
      most = middle;
    }
  }
  if (whole(least) != size) return std::nullopt;
  return least * kBlock;
}

MerkleTree read_tree(const LazyImage& image, const LazySource& source) {
  const std::string name = quote(source.name);
  auto tree = MerkleTree::read(image.descriptor(), 0, image.sizes().data_size, name);
  if (!tree || builder::digest_text(tree->trailer().digest) != source.image_digest) {
    throw Error(ExitCode::kVerification,
                "refusing what came from " + name + ": it is not " + source.image_digest);
  }
  return *std::move(tree);
}

MerkleTree fetch_trailer(Session& session, const LazyImage& image, const LazySource& source) {
  const std::uint32_t last = image.sizes().chunks() - 1;
  const std::uint64_t begin = image.range_of(last - std::min(last, kChunksBefore)).position;
  const std::uint64_t end = image.sizes().size;
  Patience patience(session.options().retries);
  for (bool is_second = false;; is_second = true) {
    std::vector<std::byte> bytes;
    fetch_range(session,
                {.url = source.url,
                 .size = end,
                 .accepts_whole = false,
                 .take =
                     [&](std::uint64_t, std::span<const std::byte> more) {
                       bytes.insert(bytes.end(), more.begin(), more.end());
                     }},
                patience, [&]() -> ByteRange {
                  const std::uint64_t position = begin + bytes.size();
                  return {position, end - position};
                });
    const std::uint64_t data = image.sizes().data_size - begin;
    image.write(image.sizes().data_size, std::span(bytes).subspan(data));
    try {
      MerkleTree tree = read_tree(image, source);
      image.sync();
      image.note(last, true);
      ChunkWriter writer(
          image, tree, [](std::uint32_t) {}, [] { return false; });
      writer.take(begin, std::span(bytes).first(data));
      writer.flush();
      writer.refuse_wrong_bytes();
      image.announce();
      return tree;
    } catch (const Error& error) {
      // The line may be bad: once more.
      if (is_second || error.code() == ExitCode::kCannotWrite) throw;
    }
  }
}

}  // namespace pyram::registry
