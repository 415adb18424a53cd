#include "tests/fuzz/walk.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/image/bytes.h"
#include "fusefs/image/hot_list.h"
#include "fusefs/image/image.h"
#include "fusefs/image/merkle_tree.h"
#include "fusefs/serve/block_cache.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/statistics.h"
#include "support/error.h"
#include "support/image_layout.h"

namespace pyram::test {
namespace {

constexpr std::uint64_t kMostInodes = 2000;
constexpr std::uint64_t kMostBytes = std::uint64_t{8} << 20;
constexpr std::uint64_t kMostExtents = 4000;

class Walk {
 public:
  explicit Walk(const Image& image)
      : image_(image),
        cache_(image, statistics_, std::size_t{1} << 20, 1),
        reader_(image, cache_) {}

  Walked run() {
    directories_.push_back(image_.root());
    known_.insert(image_.root());
    while (!directories_.empty()) {
      const InodeRef directory = directories_.back();
      directories_.pop_back();
      attempt([&] { look_into(directory); });
    }
    attempt([&] {
      if (const auto list = find_path(image_, layout::kHotList)) {
        static_cast<void>(parse_hot_list(read_image_file(image_, *list, std::uint64_t{1} << 20)));
      }
    });
    return result_;
  }

 private:
  template <typename Action>
  void attempt(Action&& action) {
    try {
      action();
    } catch (const Error&) {
      ++result_.errors;
    }
  }

  void look_into(InodeRef directory) {
    static_cast<void>(image_.attributes(directory));
    attempt([&] { static_cast<void>(image_.parent(directory)); });
    attempt([&] { static_cast<void>(image_.lookup(directory, "no such name")); });
    ListingCursor listing = image_.open_listing(directory);
    while (const auto entry = Image::next_entry(listing)) {
      // Where the listing would go on in a second request.
      attempt([&] { static_cast<void>(image_.open_listing(directory, entry->next_offset)); });
      attempt([&] { static_cast<void>(image_.lookup(directory, entry->name)); });
      if (!known_.insert(entry->inode).second) continue;
      if (++result_.inodes > kMostInodes) return;
      attempt([&] { look_at(entry->inode); });
    }
  }

  void look_at(InodeRef inode) {
    const Attributes attributes = image_.attributes(inode);
    attempt([&] {
      for (const std::string& name : image_.xattr_names(inode)) {
        static_cast<void>(image_.xattr(inode, name));
      }
    });
    if (S_ISDIR(attributes.mode)) directories_.push_back(inode);
    if (S_ISLNK(attributes.mode)) static_cast<void>(image_.link_target(inode));
    if (!S_ISREG(attributes.mode)) return;
    attempt([&] { read(inode, 0); });
    // And its end, wherever it says that that is.
    attempt([&] { read(inode, attributes.size - attributes.size / 8); });
  }

  void read(InodeRef file, std::uint64_t offset) {
    for (std::uint64_t i = 0; i < kMostExtents && result_.bytes < kMostBytes; ++i) {
      const Extent extent = reader_.extent_at(file, offset);
      if (extent.length == 0) return;
      offset = extent.file_offset + extent.length;
      if (extent.block.is_hole()) continue;
      attempt([&] {
        const BlockCache::Pin pin = reader_.pin(extent);
        for (const std::byte byte : ExtentMapper::bytes(extent, pin)) {
          sum_ = sum_ + std::to_integer<unsigned>(byte);
        }
        result_.bytes += extent.length;
      });
    }
  }

  const Image& image_;
  Statistics statistics_;
  BlockCache cache_;
  ExtentMapper reader_;
  std::vector<InodeRef> directories_;
  std::set<InodeRef> known_;
  Walked result_;
  volatile unsigned sum_ = 0;  // So that every byte is really looked at.
};

}  // namespace

Walked walk_image(UniqueFd file) {
  try {
    const Image image(ImageFile(std::move(file), "'the image'", 0));
    return Walk(image).run();
  } catch (const Error&) {
    return {.errors = 1};
  }
}

UniqueFd file_of(std::span<const std::byte> bytes) {
  UniqueFd file(::memfd_create("image", MFD_CLOEXEC));
  if (!file ||
      ::write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
  return file;
}

void check_hot_list(std::span<const std::byte> text) {
  std::vector<HotGroup> groups;
  try {
    groups = parse_hot_list({reinterpret_cast<const char*>(text.data()), text.size()});  // NOLINT
  } catch (const Error&) {
    return;
  }
  std::string again(kHotListHeader);
  for (const HotGroup& group : groups) {
    if (!group.trigger.empty()) again += "group " + group.trigger + '\n';
    for (const HotRange& range : group.ranges) again += format_hot_range(range);
  }
  const std::vector<HotGroup> second = parse_hot_list(again);
  if (second.size() != groups.size()) std::abort();
}

void check_trailer(std::span<const std::byte> input) {
  if (input.size() < 2) return;
  const std::span<const std::byte> bytes = input.subspan(2);
  const UniqueFd file = file_of(bytes);
  try {
    const auto tree =
        MerkleTree::read(file.get(), 0, load_le<std::uint16_t>(input, 0), "'the image'");
    if (!tree) return;
    tree->check_all(file.get(), 0);
    if (tree->trailer().data_size == 0) return;
    std::vector<std::byte> block(bytes.begin(), bytes.begin() + Trailer::kBlockSize);
    block.back() ^= std::byte{1};
    tree->check(0, block);
  } catch (const Error&) {
    return;
  }
  std::abort();
}

}  // namespace pyram::test
