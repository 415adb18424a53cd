#include "image-builder/output/weights.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "fusefs/image/image.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

std::string part_of(const std::string& path) {
  const fs::path name = fs::path(path).filename();
  const std::string extension = name.extension().native();
  if (path.starts_with(".pyram/")) return "lists (.pyram)";
  if (name.native().starts_with("libpypy")) return "PyPy's library";
  if (path.starts_with("lib/pyram/") || name.native().find(".so") != std::string::npos) {
    return "other libraries";
  }
  if (extension == ".pyc") return "bytecode";
  if (extension == ".py") return "sources";
  if (extension == ".mo") return "translations";
  if (extension == ".whl") return "wheels";
  if (path.starts_with("share/zoneinfo/")) return "time zones";
  if (path.starts_with("share/doc/") || path.starts_with("share/common-licenses/")) {
    return "licences";
  }
  return "other files";
}

class Scales {
 public:
  explicit Scales(const Image& image) : image_(image) {
    enter(image.root(), "");
    while (!directories_.empty()) {
      const auto [directory, prefix] = std::move(directories_.back());
      directories_.pop_back();
      visit(directory, prefix);
    }
  }

  [[nodiscard]] std::vector<Weight> result(std::uint64_t file_size) {
    for (const auto& [position, fragment] : fragments_) {
      // The last one gets what rounding left over.
      std::uint64_t bytes = fragment.bytes;
      std::uint64_t stored = fragment.stored;
      for (const auto& [part, share] : fragment.shares) {
        const std::uint64_t owed = bytes == 0 ? 0 : stored * share / bytes;
        weights_[part].stored += owed;
        bytes -= share;
        stored -= owed;
      }
    }
    const std::uint64_t squashfs = image_.superblock().bytes_used;
    const auto sum = [this] {
      return std::accumulate(
          weights_.begin(), weights_.end(), std::uint64_t{0},
          [](std::uint64_t value, const auto& entry) { return value + entry.second.stored; });
    };
    weights_["directories and inodes"].stored = squashfs - std::min(squashfs, sum());
    weights_["Merkle tree"].stored = file_size - std::min(file_size, sum());
    std::vector<Weight> result;
    for (auto& [part, weight] : weights_) {
      weight.part = part;
      result.push_back(weight);
    }
    std::sort(result.begin(), result.end(),
              [](const Weight& a, const Weight& b) { return a.stored > b.stored; });
    return result;
  }

 private:
  struct Fragment {
    std::uint64_t stored = 0;
    std::uint64_t bytes = 0;
    std::map<std::string, std::uint64_t> shares;
  };

  // One that contains itself would never end.
  void enter(InodeRef directory, const std::string& prefix) {
    if (known_directories_.insert(directory).second) directories_.emplace_back(directory, prefix);
  }

  void visit(InodeRef directory, const std::string& prefix) {
    ListingCursor listing = image_.open_listing(directory);
    while (const auto entry = Image::next_entry(listing)) {
      const std::string path = prefix + entry->name;
      if (S_ISDIR(entry->type)) enter(entry->inode, path + "/");
      if (S_ISREG(entry->type)) add(entry->inode, part_of(path));
    }
  }

  void add(InodeRef file, const std::string& part) {
    Weight& weight = weights_[part];
    FileMap map = image_.file_map(file, 0);
    weight.files += 1;
    weight.bytes += map.file_size;
    for (std::uint64_t next = 0; next < map.block_count;) {
      if (next > 0) map = image_.file_map(file, next);
      if (map.blocks.empty()) break;
      for (const Block& block : map.blocks) {
        if (!block.is_hole() && seen_.insert({block.position, 0}).second) {
          weight.stored += block.stored_size;
        }
      }
      next = map.first + map.blocks.size();
    }
    if (!map.has_fragment() ||
        !seen_.insert({map.fragment.position, 1 + map.fragment_offset}).second)
      return;
    Fragment& fragment = fragments_[map.fragment.position];
    const std::uint64_t tail = map.file_size - map.block_count * map.block_size;
    fragment.stored = map.fragment.stored_size;
    fragment.bytes += tail;
    fragment.shares[part] += tail;
  }

  const Image& image_;
  std::vector<std::pair<InodeRef, std::string>> directories_;  // Yet to be visited.
  std::set<InodeRef> known_directories_;
  std::map<std::string, Weight> weights_;
  std::map<std::uint64_t, Fragment> fragments_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen_;
};

}  // namespace

std::vector<Weight> weigh(const fs::path& path) {
  const auto image = Image::open(path);
  return Scales(*image).result(fs::file_size(path));
}

}  // namespace pyram::builder
