// Where an image's blocks lie. What is found here decides what two images can share, not what is
// right: a border that is missed costs bytes on the network, and nothing else.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <set>

#include "fusefs/image/bytes.h"
#include "fusefs/image/extent.h"
#include "fusefs/image/image.h"
#include "fusefs/image/merkle_tree.h"
#include "fusefs/image/tree_walk.h"
#include "registry/block_table.h"
#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

class Cutter {
 public:
  Cutter(const fs::path& path, int descriptor, std::uint64_t size)
      : image_(Image::open(path)), descriptor_(descriptor), size_(size) {}

  BlockTable run() {
    cut(0, Superblock::kSize);
    walk_tree(*image_, [this](const TreeEntry& found) {
      if (S_ISREG(found.entry.type)) cut_file(found.entry.inode);
      return true;
    });
    cut_metadata();
    const std::uint64_t trailer = trailer_position(image_->superblock().bytes_used);
    if (trailer < size_) cut(trailer, Trailer::kSize);
    return pieces();
  }

 private:
  void cut(std::uint64_t position, std::uint64_t length) {
    if (position >= size_ || length > size_ - position) return;
    borders_.insert(position);
    borders_.insert(position + length);
    if (borders_.size() > BlockTable::kMostBlocks) {
      throw Error(ExitCode::kBadImage,
                  "cannot make a table of the blocks of " + image_->name() + ": it has too many");
    }
  }

  void cut_file(InodeRef file) {
    FileMap map = image_->file_map(file, 0);
    for (;;) {
      for (const Block& block : map.blocks) {
        if (!block.is_hole()) cut(block.position, block.stored_size);
      }
      const std::uint64_t next = map.first + map.blocks.size();
      if (next >= map.block_count) break;
      map = image_->file_map(file, next);
    }
    if (map.has_fragment()) cut(map.fragment.position, map.fragment.stored_size);
  }

  // Metadata blocks follow each other, but for the indices of tables, which stand behind their
  // blocks.
  void cut_metadata() {
    const Superblock& super = image_->superblock();
    struct Index {
      std::uint64_t position;
      std::uint64_t entries;
      std::uint64_t per_block;
    };
    const std::array<Index, 3> indices{Index{super.fragment_table, super.fragment_count, 512},
                                       Index{super.export_table, super.inode_count, 1024},
                                       Index{super.id_table, super.id_count, 2048}};
    std::uint64_t position = super.inode_table;
    while (position < super.bytes_used) {
      const auto index = std::ranges::find_if(indices, [&](const Index& each) {
        return each.position == position && each.entries > 0;
      });
      std::uint64_t length = 0;
      if (index != indices.end()) {
        length = (index->entries + index->per_block - 1) / index->per_block * 8;
      } else {
        std::array<std::byte, 2> header;
        if (pread_full(descriptor_, header, position) != header.size()) return;
        length = header.size() + (load_le<std::uint16_t>(header, 0) & 0x7fff);
      }
      cut(position, length);
      position += length;
    }
  }

  [[nodiscard]] BlockTable pieces() {
    borders_.insert(0);
    borders_.insert(size_);
    BlockTable table;
    table.size = size_;
    std::uint64_t from = 0;
    for (const std::uint64_t border : borders_) {
      while (from < border) {
        const auto length = std::min<std::uint64_t>(border - from, BlockTable::kLongestBlock);
        table.blocks.push_back({.position = from, .length = static_cast<std::uint32_t>(length)});
        from += length;
      }
    }
    return table;
  }

  std::unique_ptr<Image> image_;
  int descriptor_;
  std::uint64_t size_;
  std::set<std::uint64_t> borders_;
};

UniqueFd open_file(const fs::path& image) {
  UniqueFd file(::open(image.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw system_error(ExitCode::kBadImage, errno, "open " + quote(image.native()));
  return file;
}

std::uint64_t size_of(const UniqueFd& file, const fs::path& image) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    throw Error(ExitCode::kBadImage, "cannot use " + quote(image.native()) + ": it is no file");
  }
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

BlockTable cut_image(const fs::path& image) {
  const UniqueFd file = open_file(image);
  return Cutter(image, file.get(), size_of(file, image)).run();
}

BlockTable block_table_of(const fs::path& image) {
  BlockTable table = cut_image(image);
  const UniqueFd file = open_file(image);
  std::vector<std::byte> buffer(BlockTable::kLongestBlock);
  for (BlockEntry& block : table.blocks) {
    const std::span bytes = std::span(buffer).first(block.length);
    if (pread_full(file.get(), bytes, block.position) != bytes.size()) {
      throw Error(ExitCode::kBadImage, "cannot read " + quote(image.native()) + ": it is cut");
    }
    block.hash = hash_of_block(bytes);
  }
  return table;
}

}  // namespace pyram::registry
