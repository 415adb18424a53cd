// Reads a SquashFS 4.0 image: what is in it, and where a file's blocks are. No FUSE, no cache of
// data.
//
// The image is read with pread and never mapped: a file that is truncated under us has to be an
// error, not a SIGBUS. All functions are thread-safe. All throw Error: kBadImage and EIO when the
// image is corrupt, other errno values where said. Format: see superblock.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/image/block_list_index.h"
#include "fusefs/image/image_file.h"
#include "fusefs/image/inode.h"
#include "fusefs/image/metadata.h"
#include "fusefs/image/superblock.h"
#include "fusefs/image/types.h"

namespace pyram {

// A place in a directory's listing, to go on from without searching. A plain value.
struct ListingCursor {
  MetadataCursor place;
  std::uint64_t offset = 0;  // In the listing; what a listing is asked to go on from.
  std::uint64_t end = 0;     // Its length.
  std::uint32_t in_run = 0;  // Entries left of the current run of entries.
  std::uint32_t run_block = 0;
  std::uint32_t run_number = 0;
};

class Image {
 public:
  // How many blocks file_map() gives at most: 128 MiB of a file with the usual block size.
  static constexpr std::uint64_t kBlocksPerMap = 1024;

  // Whether everything that is read is checked first against the image's Merkle tree.
  enum class Verify : bool { kNo, kYes };

  // Opens `path` for reading; the SquashFS starts `offset` bytes into it.
  [[nodiscard]] static std::unique_ptr<Image> open(const std::filesystem::path& path,
                                                   std::uint64_t offset = 0,
                                                   Verify verify = Verify::kNo);
  // The two steps of open(), for a caller that only keeps the file: open it, check the superblock.
  // A stub leads to the image that is being fetched (partial_image.h), which is always verified.
  [[nodiscard]] static ImageFile open_file(const std::filesystem::path& path,
                                           std::uint64_t offset = 0);
  static void check(const ImageFile& file);
  // Throws kVerification (EIO), too, and from then on whatever reads of the image does, where it
  // verifies and finds other bytes than those that were packed, or has nothing to verify by.
  // `subdirectory` (a path without links; may be empty): what root() is, and everything begins at.
  explicit Image(ImageFile file, Verify verify = Verify::kNo, std::string_view subdirectory = {});

  [[nodiscard]] const Superblock& superblock() const { return superblock_; }
  [[nodiscard]] const std::string& name() const { return file_->name(); }
  [[nodiscard]] bool verifies() const { return file_->verifies(); }
  // Whether the file was written to since it was opened (ImageFile).
  [[nodiscard]] bool was_overwritten() const { return file_->was_overwritten(); }
  // Of an image that is being fetched; otherwise nullptr.
  [[nodiscard]] PartialImage* partial() const { return file_->partial(); }
  // Returns once what a read of the block needs is here (ImageFile::await).
  void await(const Block& block) const { file_->await(block.position, block.stored_size); }
  [[nodiscard]] InodeRef root() const { return root_; }

  [[nodiscard]] Attributes attributes(InodeRef inode) const;
  // Of what an entry of a directory leads to. An error, too, where the two say that it is another
  // kind of file.
  [[nodiscard]] Attributes attributes(const DirectoryEntry& entry) const;

  // Both: ENOTDIR where `directory` is none.
  [[nodiscard]] std::optional<DirectoryEntry> lookup(InodeRef directory,
                                                     std::string_view name) const;
  // From `offset` on, which is 0 or an entry's next_offset. "." and ".." are not listed.
  [[nodiscard]] ListingCursor open_listing(InodeRef directory, std::uint64_t offset = 0) const;
  // The next entry, nothing at the end.
  [[nodiscard]] static std::optional<DirectoryEntry> next_entry(ListingCursor& listing);
  // The directory that `directory` lies in; nothing where the image has no index of inodes.
  [[nodiscard]] std::optional<InodeRef> parent(InodeRef directory) const;

  // EINVAL where `link` is none; an error, too, where it is longer than a path may be.
  [[nodiscard]] std::string link_target(InodeRef link) const;

  [[nodiscard]] bool has_xattrs() const { return xattr_count_ != 0; }
  [[nodiscard]] std::vector<std::string> xattr_names(InodeRef inode) const;
  [[nodiscard]] std::optional<std::string> xattr(InodeRef inode, std::string_view name) const;

  // The blocks of a file around the one with index `block`: a whole stretch of kBlocksPerMap.
  // EISDIR or EINVAL where `file` is no regular file.
  [[nodiscard]] FileMap file_map(InodeRef file, std::uint64_t block) const;

  // Reads and decompresses a block that is no hole. `output` has block_size bytes. Returns how many
  // the block has.
  [[nodiscard]] std::size_t read_block(const Block& block, std::span<std::byte> output) const;

  // Has the disk begin to read a block.
  void read_ahead(const Block& block) const;
  // Drops the image file from the page cache: what was needed of it is decompressed.
  void forget_stored() const;
  // The same for one block that was just read.
  void forget_stored(const Block& block) const;

  // Gives back the memory of what is only kept for speed.
  void forget_metadata() const {
    metadata_->clear();
    block_lists_->clear();
  }

 private:
  [[nodiscard]] Inode inode(InodeRef ref) const;
  // At the first entry. REQUIRES: `directory` is one.
  [[nodiscard]] ListingCursor listing_of(const Inode& directory) const;
  // To where the index says that a metadata block of the listing begins.
  void jump(ListingCursor& listing, const Inode& directory, std::uint32_t position,
            std::uint32_t block) const;
  [[nodiscard]] MetadataCursor table_entry(std::uint64_t index_position, std::uint64_t index,
                                           std::uint32_t entry_size) const;
  [[nodiscard]] std::uint32_t owner(std::uint32_t index) const;
  [[nodiscard]] Block block_at(std::uint64_t position, std::uint32_t size_field) const;
  // Fills in the stretch that begins at map.first.
  void read_blocks(InodeRef ref, const Inode& file, FileMap& map) const;
  [[nodiscard]] Block fragment_block(std::uint32_t index) const;
  void enter(std::string_view subdirectory);
  void read_owners();
  void open_xattrs();
  // Calls `visit` with each name and a cursor to the value (and whether it is stored elsewhere)
  // until it returns false.
  using XattrVisitor =
      std::function<bool(const std::string& name, MetadataCursor value, bool elsewhere)>;
  void visit_xattrs(InodeRef ref, const XattrVisitor& visit) const;

  std::unique_ptr<const ImageFile> file_;  // Where it is: metadata_ refers to it.
  Superblock superblock_;
  InodeRef root_{};
  Decompress decompress_ = nullptr;
  std::unique_ptr<MetadataCache> metadata_;
  const std::unique_ptr<BlockListIndex> block_lists_ = std::make_unique<BlockListIndex>();
  std::vector<std::uint32_t> owners_;
  std::uint64_t xattr_start_ = 0;
  std::uint32_t xattr_count_ = 0;
};

// The inode of a path inside the image ("bin/pypy3"; "" is the root). Links are not followed.
[[nodiscard]] std::optional<InodeRef> find_path(const Image& image, std::string_view path);

// The path of an inode inside the image, for a message: the first that is found. Nothing where
// there is none, or where it can't be read or would take long to find.
[[nodiscard]] std::optional<std::string> path_of(const Image& image, InodeRef inode);

// A whole file's bytes. Throws Error where it is longer than `limit`, which bounds what a corrupt
// size can make us allocate.
[[nodiscard]] std::string read_image_file(const Image& image, InodeRef file, std::uint64_t limit);

}  // namespace pyram
