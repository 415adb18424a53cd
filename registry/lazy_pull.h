// `pyram-image pull --lazy`: an image that can be used before it is here.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fusefs/image/merkle_tree.h"
#include "registry/lazy_image.h"

namespace pyram::registry {

struct LazyWanted {
  LazySource source;                // Without its target.
  std::filesystem::path image;      // The name that it gets.
  std::filesystem::path directory;  // Where it is until it is whole.
  std::uint64_t size = 0;           // Of the file; 0 where unknown.
  std::vector<std::filesystem::path> keys;
};

// Fetches the trailer, checks it and who signed it, gives the image its name and starts what
// fetches the rest. Nothing where it can't be done so (the server knows no ranges, or the image has
// no Merkle tree): then it has to be pulled as a whole. Throws Error as a pull does.
[[nodiscard]] std::optional<Trailer> begin_lazily(LazyWanted wanted);

// Of a name that an image on its way has: has it fetched on, and waits until it is whole, for as
// long as it gets on within `patience`. Returns false for any other name. Throws Error
// (kBadSource).
bool wait_until_whole(const std::filesystem::path& image, std::chrono::seconds patience,
                      const std::function<void(double done)>& progress);

}  // namespace pyram::registry
