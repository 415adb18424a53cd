// What comes first of an image that is fetched in parts: its trailer, with the Merkle tree that
// everything else is checked by.
#pragma once

#include <cstdint>
#include <optional>

#include "fusefs/image/merkle_tree.h"
#include "registry/lazy_image.h"

namespace pyram::registry {

// How much of a file of `size` bytes is data, where it has a trailer; nothing where no image with
// one is as long.
[[nodiscard]] std::optional<std::uint64_t> data_size_of(std::uint64_t size);

// The tree that is here, checked against the source's digest. Throws Error (kVerification) for
// another one.
[[nodiscard]] MerkleTree read_tree(const LazyImage& image, const LazySource& source);

// Fetches the trailer, and of the data the end, where the metadata lies. Everything is checked, and
// noted. Throws Error: kBadSource, kCannotWrite, NoRanges; kVerification for an image that is
// another one than the source says.
MerkleTree fetch_trailer(Session& session, const LazyImage& image, const LazySource& source);

}  // namespace pyram::registry
