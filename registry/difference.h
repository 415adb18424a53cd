// A new image by what differs from older ones: what these have is copied, the rest is fetched.
//
// The file grows from its beginning, as by a plain download: whatever interrupts this leaves a
// beginning of the image, which either way can go on from. Nobody trusts what comes of it before it
// was checked as a whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "registry/block_table.h"
#include "registry/partial_file.h"
#include "support/unique_fd.h"

namespace pyram::registry {

// The blocks of images that are here. Not thread-safe.
class OldBlocks {
 public:
  // Looks for blocks of lengths that `wanted` has. Images that can't be used are left out, and
  // `note` hears why.
  OldBlocks(const std::vector<std::filesystem::path>& images, const BlockTable& wanted,
            const std::function<void(const std::string&)>& note);

  [[nodiscard]] bool has_any() const { return !places_.empty(); }
  [[nodiscard]] bool has(const BlockEntry& block) const { return places_.contains(block.hash); }
  // The block's bytes, read and checked; nothing where they are no longer there.
  [[nodiscard]] std::vector<std::byte> read(const BlockEntry& block) const;

 private:
  struct Place {
    std::size_t image;
    std::uint64_t position;
  };
  void add(const std::filesystem::path& image, const std::vector<std::uint32_t>& lengths);

  std::vector<UniqueFd> images_;
  std::map<BlockHash, Place> places_;
};

// How much of an image came from where, in bytes.
struct Origin {
  std::uint64_t fetched = 0;
  std::uint64_t copied = 0;
  std::uint64_t computed = 0;  // The Merkle tree.
};

// Has `file` become the image of that table. `fetch_up_to` fetches what the file doesn't have yet
// up to a position, or more of it. Throws Error (kCannotWrite), and what `fetch_up_to` throws.
[[nodiscard]] Origin assemble(const BlockTable& table, const OldBlocks& old, PartialFile& file,
                              const std::function<void(std::uint64_t end)>& fetch_up_to);

struct Reuse {
  std::vector<std::filesystem::path> old;  // Images that are here, the likeliest first.
  std::uint64_t size = 0;                  // Of the new image, where it is known.
  // The new image's table of blocks; nothing where there is none.
  std::function<std::optional<std::string>()> table;
  // Fetches what `file` doesn't have yet of an image of `size` bytes, up to `end` or more.
  std::function<void(std::uint64_t size, std::uint64_t end)> fetch;
  std::function<void(const std::string&)> note;  // Hears why nothing can be reused.
};

struct Reused {
  std::string said;        // What to tell the person; empty where nothing was reused.
  std::uint64_t size = 0;  // Of the image, as the table has it.
};

// Fills `file` as far as it can be, which may be not at all: what is left is the download's affair.
// Throws Error: kCannotWrite, and TransferError where the server is not to be had.
[[nodiscard]] Reused reuse_blocks(const Reuse& reuse, PartialFile& file);

}  // namespace pyram::registry
