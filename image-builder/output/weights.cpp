#include "image-builder/output/weights.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "fusefs/image/extent.h"
#include "fusefs/image/tree_walk.h"
#include "support/image_layout.h"

namespace pyram::builder {
namespace {

namespace fs = std::filesystem;

std::string part_of(const std::string& path) {
  const fs::path name = fs::path(path).filename();
  const std::string extension = name.extension().native();
  if (path.starts_with(".pyram/")) return "lists (.pyram)";
  if (name.native().starts_with("libpypy")) return "PyPy's library";
  if (path.starts_with(std::string(layout::kLibraries) + "/") ||
      name.native().find(".so") != std::string::npos) {
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
    walk_tree(image, [this](const TreeEntry& found) {
      if (S_ISREG(found.entry.type)) add(found.entry.inode, part_of(found.path));
      return true;
    });
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

  void add(InodeRef file, const std::string& part) {
    Weight& weight = weights_[part];
    FileMap map = image_.file_map(file, 0);
    weight.files += 1;
    weight.bytes += map.file_size;
    for (std::uint64_t done = 0; done < map.file_size;) {
      if (!covers(map, done)) map = image_.file_map(file, done / map.block_size);
      const Extent extent = extent_at(map, done);
      done += extent.length;
      if (extent.block.is_hole()) continue;
      // A fragment block is each file's by the part that it has of it.
      const std::uint64_t place = extent.is_whole_block() ? 0 : 1 + extent.offset_in_block;
      if (!seen_.insert({extent.block.position, place}).second) continue;
      if (extent.is_whole_block()) {
        weight.stored += extent.block.stored_size;
      } else {
        Fragment& fragment = fragments_[extent.block.position];
        fragment.stored = extent.block.stored_size;
        fragment.bytes += extent.length;
        fragment.shares[part] += extent.length;
      }
    }
  }

  const Image& image_;
  std::map<std::string, Weight> weights_;
  std::map<std::uint64_t, Fragment> fragments_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen_;
};

}  // namespace

std::vector<Weight> weigh(const Image& image, std::uint64_t file_size) {
  return Scales(image).result(file_size);
}

}  // namespace pyram::builder
