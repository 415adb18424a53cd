#include "registry/difference.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "fusefs/image/merkle_tree.h"
#include "fusefs/image/superblock.h"
#include "image-builder/output/integrity.h"
#include "registry/http.h"
#include "support/amounts.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::registry {
namespace {

// Fewer bytes than this between two that are fetched are fetched along with them: a request costs
// a server and a slow line more.
constexpr std::uint64_t kShortGap = std::uint64_t{16} << 10;

UniqueFd open_file(const std::filesystem::path& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw system_error(ExitCode::kFailed, errno, "open " + quote(path.native()));
  return file;
}

class Assembly {
 public:
  Assembly(const BlockTable& table, const OldBlocks& old, PartialFile& file,
           const std::function<void(std::uint64_t)>& fetch_up_to)
      : table_(table), old_(old), file_(file), fetch_up_to_(fetch_up_to) {}

  Origin run() {
    plan();
    file_.reserve(table_.size);
    for (std::size_t i = first(); i < table_.blocks.size(); i = first()) {
      if (!has_looked_) look_for_tree();
      if (file_.size() >= tree_position_ && compute_tree()) continue;
      if (is_old_[i] && copy(table_.blocks[i])) continue;
      fetch(i);
    }
    return origin_;
  }

 private:
  [[nodiscard]] static std::uint64_t end_of(const BlockEntry& block) {
    return block.position + block.length;
  }

  // The block that the file goes on in; the number of blocks where it is whole.
  [[nodiscard]] std::size_t first() const {
    const auto found = std::ranges::upper_bound(table_.blocks, file_.size(), {}, &end_of);
    return static_cast<std::size_t>(found - table_.blocks.begin());
  }

  void plan() {
    is_old_.reserve(table_.blocks.size());
    for (const BlockEntry& block : table_.blocks) is_old_.push_back(old_.has(block));
    for (std::size_t i = 0; i < is_old_.size();) {
      std::size_t end = i;
      std::uint64_t bytes = 0;
      for (; end < is_old_.size() && is_old_[end]; ++end) bytes += table_.blocks[end].length;
      if (i > 0 && end < is_old_.size() && bytes < kShortGap) {
        std::fill(is_old_.begin() + static_cast<std::ptrdiff_t>(i),
                  is_old_.begin() + static_cast<std::ptrdiff_t>(end), false);
      }
      i = std::max(end, i + 1);
    }
  }

  // From here to the next block that is to be copied or computed.
  void fetch(std::size_t index) {
    std::uint64_t end = end_of(table_.blocks[index]);
    for (++index; index < table_.blocks.size(); ++index) {
      const BlockEntry& block = table_.blocks[index];
      if (is_old_[index] || block.position == tree_position_) break;
      end = end_of(block);
    }
    const std::uint64_t before = file_.size();
    fetch_up_to_(end);
    // A server that sends everything again has the file begin anew.
    if (file_.size() < end) throw Error(ExitCode::kBadSource, "a part of the image is missing");
    if (file_.size() != end) {
      origin_ = {.fetched = file_.size()};
    } else {
      origin_.fetched += end - before;
    }
  }

  [[nodiscard]] bool copy(const BlockEntry& block) {
    const auto bytes = old_.read(block);
    if (bytes.empty()) return false;
    const auto rest = std::span(bytes).subspan(file_.size() - block.position);
    file_.append(rest);
    origin_.copied += rest.size();
    return true;
  }

  // Where the Merkle tree has to be, by what the image's beginning says.
  void look_for_tree() {
    std::array<std::byte, Superblock::kSize> start;
    if (file_.size() < start.size()) return;
    has_looked_ = true;
    try {
      const UniqueFd own = open_file(file_.path());
      if (pread_full(own.get(), start, 0) != start.size()) return;
      const Superblock super = parse_superblock(start, table_.size, "the image");
      tree_position_ = trailer_position(super.bytes_used) + Trailer::kSize;
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): found out by the check at the end.
    }
  }

  // The tree follows from what is before it, so it need not be fetched.
  [[nodiscard]] bool compute_tree() {
    const std::uint64_t position = std::exchange(tree_position_, kNowhere);
    try {
      const UniqueFd own = open_file(file_.path());
      std::array<std::byte, Trailer::kSize> header;
      if (pread_full(own.get(), header, position - header.size()) != header.size()) return false;
      const auto trailer = parse_trailer(header, position - header.size(), "the image");
      if (!trailer || position + trailer->tree_size != table_.size) return false;
      const auto tree = builder::merkle_tree_of(own.get(), *trailer);
      if (tree.size() != trailer->tree_size) return false;
      const auto rest = std::span(tree).subspan(file_.size() - position);
      file_.append(rest);
      origin_.computed += rest.size();
      return true;
    } catch (const Error& error) {
      if (error.code() == ExitCode::kCannotWrite) throw;
      return false;
    }
  }

  static constexpr std::uint64_t kNowhere = ~std::uint64_t{0};

  const BlockTable& table_;
  const OldBlocks& old_;
  PartialFile& file_;
  const std::function<void(std::uint64_t)>& fetch_up_to_;
  std::vector<bool> is_old_;
  bool has_looked_ = false;
  std::uint64_t tree_position_ = kNowhere;
  Origin origin_;
};

}  // namespace

OldBlocks::OldBlocks(const std::vector<std::filesystem::path>& images, const BlockTable& wanted,
                     const std::function<void(const std::string&)>& note) {
  std::vector<std::uint32_t> lengths;
  lengths.reserve(wanted.blocks.size());
  for (const BlockEntry& block : wanted.blocks) lengths.push_back(block.length);
  std::ranges::sort(lengths);
  for (const auto& image : images) {
    try {
      add(image, lengths);
    } catch (const Error& error) {
      note(std::string("nothing is reused: ") + error.what());
    }
  }
}

void OldBlocks::add(const std::filesystem::path& image, const std::vector<std::uint32_t>& lengths) {
  const BlockTable table = cut_image(image);
  UniqueFd file = open_file(image);
  std::vector<std::byte> buffer(BlockTable::kLongestBlock);
  for (const BlockEntry& block : table.blocks) {
    if (!std::ranges::binary_search(lengths, block.length)) continue;
    const std::span bytes = std::span(buffer).first(block.length);
    if (pread_full(file.get(), bytes, block.position) != bytes.size()) break;
    places_.try_emplace(hash_of_block(bytes), Place{images_.size(), block.position});
  }
  images_.push_back(std::move(file));
}

std::vector<std::byte> OldBlocks::read(const BlockEntry& block) const {
  const Place& place = places_.at(block.hash);
  std::vector<std::byte> bytes(block.length);
  try {
    const int image = images_[place.image].get();
    if (pread_full(image, bytes, place.position) == bytes.size() &&
        hash_of_block(bytes) == block.hash) {
      return bytes;
    }
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): a disk that fails; it is fetched then.
  }
  return {};
}

Origin assemble(const BlockTable& table, const OldBlocks& old, PartialFile& file,
                const std::function<void(std::uint64_t end)>& fetch_up_to) {
  return Assembly(table, old, file, fetch_up_to).run();
}

Reused reuse_blocks(const Reuse& reuse, PartialFile& file) {
  if (reuse.old.empty()) return {};
  const auto give_up = [&](const Error& error) {
    reuse.note(std::string("nothing is reused: ") + error.what());
    return Reused();
  };
  std::optional<std::string> text;
  try {
    text = reuse.table();
  } catch (const Error& error) {
    return give_up(error);
  }
  if (!text) return {};
  try {
    const BlockTable table = parse_block_table(*text);
    if (reuse.size != 0 && table.size != reuse.size) {
      throw Error(ExitCode::kBadSource, "cannot use a table of blocks: it is another image's");
    }
    const OldBlocks old(reuse.old, table, reuse.note);
    if (!old.has_any()) return {};
    const Origin origin =
        assemble(table, old, file, [&](std::uint64_t end) { reuse.fetch(table.size, end); });
    return {.said = "fetched " + megabytes(origin.fetched + text->size()) + " of " +
                    megabytes(table.size) + ", reused " + megabytes(origin.copied) + "\n",
            .size = table.size};
  } catch (const TransferError& error) {
    // The image as a whole would have to come from there too.
    if (error.passing()) throw;
    return give_up(error);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kCannotWrite) throw;
    return give_up(error);
  }
}

}  // namespace pyram::registry
