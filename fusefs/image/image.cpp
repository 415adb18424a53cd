#include "fusefs/image/image.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "fusefs/image/bytes.h"
#include "fusefs/image/compressors.h"
#include "fusefs/image/extent.h"
#include "fusefs/image/tree_walk.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram {
namespace {

constexpr std::uint32_t kStoredAsIs = 1U << 24;  // In a block's size field: not compressed.

Error wrong_type(int error_number, std::string_view what) {
  return {ExitCode::kFailed, std::string(what), error_number};
}

Superblock read_superblock(const ImageFile& file) {
  const std::uint64_t length = file.size();
  std::array<std::byte, Superblock::kSize> bytes;
  const std::size_t got = length > 0 ? file.read(bytes, 0) : 0;
  return parse_superblock(std::span(bytes).first(got), length, file.name());
}

Error unknown_compressor(const Superblock& super, const std::string& name) {
  return {ExitCode::kBadImage, "cannot use " + name + " as an image: it is compressed with " +
                                   std::string(compression_name(super.compression)) +
                                   ", which this build cannot read; make it with zstd"};
}

// What a stub leads to; nothing where the file is none. No image is as short.
[[gnu::cold]] std::optional<PartialImage::Opened> open_partial(int stub,
                                                               const std::filesystem::path& path) {
  std::string text(kLongestStub, '\0');
  text.resize(pread_full(stub, std::as_writable_bytes(std::span(text)), 0));
  const auto directory = parse_stub(text);
  if (!directory) return std::nullopt;
  // The stub may have been found by a link.
  const auto place = std::filesystem::canonical(path).parent_path();
  return PartialImage::open((place / *directory).lexically_normal().native(), quote(path.native()));
}

// Names that the kernel or a person would take for something else.
bool is_sound_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 256 &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

}  // namespace

std::unique_ptr<Image> Image::open(const std::filesystem::path& path, std::uint64_t offset,
                                   Verify verify) {
  return std::make_unique<Image>(open_file(path, offset), verify);
}

ImageFile Image::open_file(const std::filesystem::path& path, std::uint64_t offset) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) {
    throw system_error(ExitCode::kBadImage, errno, "open the image " + quote(path.native()));
  }
  struct stat status {};
  if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode) && offset == 0 &&
      status.st_size < static_cast<off_t>(kLongestStub)) {
    if (auto opened = open_partial(file.get(), path)) {
      return {std::move(opened->data), quote(path.native()), 0, std::move(opened->partial)};
    }
  }
  return {std::move(file), quote(path.native()), offset};
}

void Image::check(const ImageFile& file) {
  const Superblock super = read_superblock(file);
  if (find_decompressor(super.compression) == nullptr) throw unknown_compressor(super, file.name());
}

Image::Image(ImageFile file, Verify verify, std::string_view subdirectory) {
  superblock_ = read_superblock(file);
  // What was fetched is always checked: nothing else says that it is right.
  if (verify == Verify::kYes || file.partial() != nullptr) {
    // Where the tree lies is what the superblock says: then it is read again, as one that is
    // checked.
    file.verify(superblock_.bytes_used);
    superblock_ = read_superblock(file);
  }
  file_ = std::make_unique<const ImageFile>(std::move(file));
  decompress_ = find_decompressor(superblock_.compression);
  if (decompress_ == nullptr) throw unknown_compressor(superblock_, name());
  metadata_ = std::make_unique<MetadataCache>(*file_, superblock_.bytes_used, decompress_);
  // All metadata lies in one piece behind the data, and a start needs much of it at once.
  constexpr std::uint64_t kMost = std::uint64_t{1} << 20;
  file_->read_ahead(superblock_.inode_table,
                    std::min(kMost, superblock_.bytes_used - superblock_.inode_table));
  read_owners();
  open_xattrs();
  root_ = {superblock_.root_inode};
  // Fails here and not at the first request when the metadata makes no sense at all.
  if (!S_ISDIR(attributes(root()).mode)) throw_corrupt("its root is not a directory");
  if (!subdirectory.empty()) enter(subdirectory);
}

[[gnu::cold]] void Image::enter(std::string_view subdirectory) {
  std::optional<InodeRef> found;
  try {
    found = find_path(*this, subdirectory);
  } catch (const Error& error) {
    if (error.error_number() != ENOTDIR) throw;
  }
  if (!found || !S_ISDIR(attributes(*found).mode)) {
    throw Error(ExitCode::kBadImage, "cannot show " + quote(subdirectory) + " of the image " +
                                         name() + ": there is no such directory in it");
  }
  root_ = *found;
}

Inode Image::inode(InodeRef ref) const {
  const std::uint64_t block = ref.value >> 16;
  if (block >= superblock_.directory_table - superblock_.inode_table) {
    throw_corrupt("an inode lies outside of its table");
  }
  return read_inode(MetadataCursor(*metadata_, superblock_.inode_table + block,
                                   static_cast<std::uint32_t>(ref.value & 0xffff)));
}

MetadataCursor Image::table_entry(std::uint64_t index_position, std::uint64_t index,
                                  std::uint32_t entry_size) const {
  const std::uint64_t byte = index * entry_size;
  const std::uint64_t at = index_position + byte / Superblock::kMetadataBlockSize * 8;
  std::array<std::byte, 8> raw;
  if (at > superblock_.bytes_used - raw.size() || file_->read(raw, at) != raw.size()) {
    throw_corrupt("a table is cut");
  }
  return {*metadata_, load_le<std::uint64_t>(raw, 0),
          static_cast<std::uint32_t>(byte % Superblock::kMetadataBlockSize)};
}

void Image::read_owners() {
  constexpr std::uint32_t kPerBlock = Superblock::kMetadataBlockSize / 4;
  std::array<std::byte, 4> raw;
  std::optional<MetadataCursor> cursor;
  for (std::uint32_t i = 0; i < superblock_.id_count; ++i) {
    // The blocks of a table need not follow each other.
    if (i % kPerBlock == 0) cursor = table_entry(superblock_.id_table, i, 4);
    cursor->read(raw);
    owners_.push_back(load_le<std::uint32_t>(raw, 0));
  }
}

std::uint32_t Image::owner(std::uint32_t index) const {
  if (index >= owners_.size()) throw_corrupt("an owner is not in its table");
  return owners_[index];
}

Attributes Image::attributes(InodeRef ref) const {
  Attributes attributes = inode(ref).attributes;
  const std::uint32_t group = attributes.gid;
  const bool same = attributes.uid == group;
  attributes.uid = owner(attributes.uid);
  attributes.gid = same ? attributes.uid : owner(group);
  return attributes;
}

Attributes Image::attributes(const DirectoryEntry& entry) const {
  const Attributes found = attributes(entry.inode);
  if ((found.mode & S_IFMT) != entry.type) {
    throw_corrupt(quote(entry.name) +
                  " is another kind of file in its directory than in its inode");
  }
  return found;
}

ListingCursor Image::listing_of(const Inode& directory) const {
  return {.place = MetadataCursor(*metadata_, superblock_.directory_table + directory.listing_block,
                                  directory.listing_offset),
          .end = directory.listing_size};
}

void Image::jump(ListingCursor& listing, const Inode& directory, std::uint32_t position,
                 std::uint32_t block) const {
  listing.offset = position;
  listing.place =
      MetadataCursor(*metadata_, superblock_.directory_table + block,
                     (directory.listing_offset + position) % Superblock::kMetadataBlockSize);
}

ListingCursor Image::open_listing(InodeRef ref, std::uint64_t offset) const {
  const Inode directory = inode(ref);
  if (!S_ISDIR(directory.attributes.mode)) throw wrong_type(ENOTDIR, "not a directory");
  ListingCursor listing = listing_of(directory);
  if (offset == 0) return listing;
  // The index has an entry for each metadata block of a long listing: skip what lies before.
  MetadataCursor index = directory.rest;
  for (std::uint32_t i = 0; i < directory.index_count; ++i) {
    const auto raw = index.read<12>();
    const auto position = load_le<std::uint32_t>(raw, 0);
    if (position >= offset) break;
    index.skip(std::uint64_t{load_le<std::uint32_t>(raw, 8)} + 1);
    jump(listing, directory, position, load_le<std::uint32_t>(raw, 4));
  }
  while (listing.offset < offset && next_entry(listing)) {
  }
  if (listing.offset != offset) throw wrong_type(EINVAL, "no such place in a directory");
  return listing;
}

std::optional<DirectoryEntry> Image::next_entry(ListingCursor& listing) {
  if (listing.offset >= listing.end) return std::nullopt;
  if (listing.in_run == 0) {
    const auto header = listing.place.read<12>();
    listing.in_run = load_le<std::uint32_t>(header, 0);
    // The count is stored less one, and Linux takes 256 at most.
    if (++listing.in_run == 0 || listing.in_run > 256) throw_corrupt("a directory's entries");
    listing.run_block = load_le<std::uint32_t>(header, 4);
    listing.run_number = load_le<std::uint32_t>(header, 8);
    listing.offset += header.size();
  }
  const auto raw = listing.place.read<8>();
  DirectoryEntry entry;
  const std::uint32_t name_length = std::uint32_t{load_le<std::uint16_t>(raw, 6)} + 1;
  if (name_length > 256) throw_corrupt("a name is too long");
  entry.name.resize(name_length);
  listing.place.read(std::as_writable_bytes(std::span(entry.name)));
  if (!is_sound_name(entry.name)) throw_corrupt("a directory has an impossible name");
  entry.inode.value = std::uint64_t{listing.run_block} << 16 | load_le<std::uint16_t>(raw, 0);
  // The difference from the run's number is signed.
  entry.inode_number =
      listing.run_number +
      static_cast<std::uint32_t>(static_cast<std::int16_t>(load_le<std::uint16_t>(raw, 2)));
  entry.type = file_type(load_le<std::uint16_t>(raw, 4));
  --listing.in_run;
  listing.offset += raw.size() + name_length;
  entry.next_offset = listing.offset;
  return entry;
}

std::optional<DirectoryEntry> Image::lookup(InodeRef ref, std::string_view name) const {
  const Inode directory = inode(ref);
  if (!S_ISDIR(directory.attributes.mode)) throw wrong_type(ENOTDIR, "not a directory");
  ListingCursor listing = listing_of(directory);
  // Names are sorted, and the index has the first name of each metadata block of the listing.
  MetadataCursor index = directory.rest;
  std::string first;
  for (std::uint32_t i = 0; i < directory.index_count; ++i) {
    const auto raw = index.read<12>();
    const auto position = load_le<std::uint32_t>(raw, 0);
    const std::uint64_t length = std::uint64_t{load_le<std::uint32_t>(raw, 8)} + 1;
    if (length > 256) throw_corrupt("a name is too long");
    first.resize(length);
    index.read(std::as_writable_bytes(std::span(first)));
    if (first > name) break;
    jump(listing, directory, position, load_le<std::uint32_t>(raw, 4));
  }
  while (std::optional<DirectoryEntry> entry = next_entry(listing)) {
    const int order = entry->name.compare(name);
    if (order == 0) return entry;
    if (order > 0) break;
  }
  return std::nullopt;
}

std::optional<InodeRef> Image::parent(InodeRef ref) const {
  const Inode directory = inode(ref);
  if (!S_ISDIR(directory.attributes.mode)) throw wrong_type(ENOTDIR, "not a directory");
  if (ref == root()) return ref;
  if (superblock_.export_table == Superblock::kNoTable) return std::nullopt;
  if (directory.parent_number == 0 || directory.parent_number > superblock_.inode_count) {
    throw_corrupt("a directory has no parent");
  }
  return InodeRef{load_le<std::uint64_t>(
      table_entry(superblock_.export_table, directory.parent_number - 1, 8).read<8>(), 0)};
}

std::string Image::link_target(InodeRef ref) const {
  Inode link = inode(ref);
  if (!S_ISLNK(link.attributes.mode)) throw wrong_type(EINVAL, "not a symbolic link");
  if (link.attributes.size >= PATH_MAX) throw_corrupt("a symbolic link is too long");
  std::string target(link.attributes.size, '\0');
  link.rest.read(std::as_writable_bytes(std::span(target)));
  return target;
}

Block Image::block_at(std::uint64_t position, std::uint32_t size_field) const {
  Block block{.position = position,
              .stored_size = size_field & ~kStoredAsIs,
              .compressed = (size_field & kStoredAsIs) == 0};
  if (block.is_hole()) return block;
  if (block.stored_size > superblock_.block_size || position > superblock_.bytes_used ||
      superblock_.bytes_used - position < block.stored_size) {
    throw_corrupt("a block lies outside of it");
  }
  return block;
}

Block Image::fragment_block(std::uint32_t index) const {
  if (index >= superblock_.fragment_count) throw_corrupt("a fragment is not in its table");
  const auto raw = table_entry(superblock_.fragment_table, index, 16).read<12>();
  const Block block = block_at(load_le<std::uint64_t>(raw, 0), load_le<std::uint32_t>(raw, 8));
  if (block.is_hole()) throw_corrupt("a fragment is empty");
  return block;
}

FileMap Image::file_map(InodeRef ref, std::uint64_t block) const {
  const Inode file = inode(ref);
  if (S_ISDIR(file.attributes.mode)) throw wrong_type(EISDIR, "a directory");
  if (!S_ISREG(file.attributes.mode)) throw wrong_type(EINVAL, "not a regular file");
  FileMap map;
  map.file_size = file.attributes.size;
  map.block_size = superblock_.block_size;
  if (map.file_size % map.block_size != 0) map.fragment_number = file.attributes.fragment;
  map.block_count = map.file_size / map.block_size;
  if (!map.has_fragment() && map.file_size % map.block_size != 0) ++map.block_count;
  if (map.has_fragment()) {
    map.fragment = fragment_block(map.fragment_number);
    map.fragment_offset = file.fragment_offset;
    if (map.fragment_offset + map.file_size % map.block_size > map.block_size) {
      throw_corrupt("a file's tail lies outside of its fragment");
    }
  }
  map.first = std::min(block, map.block_count) / kBlocksPerMap * kBlocksPerMap;
  read_blocks(ref, file, map);
  return map;
}

void Image::read_blocks(InodeRef ref, const Inode& file, FileMap& map) const {
  const std::uint64_t end = std::min(map.first + kBlocksPerMap, map.block_count);
  map.blocks.reserve(end - map.first);
  // Where a block lies is the sum of the sizes of those before it: from the last known one on.
  MetadataCursor list = file.rest;
  std::uint64_t position = file.first_block;
  std::uint64_t index = 0;
  if (map.first > 0) {
    if (const auto known = block_lists_->find(ref, map.first / kBlocksPerMap)) {
      index = known->stretch * kBlocksPerMap;
      list = MetadataCursor(*metadata_, known->place.list_block, known->place.list_offset);
      position = known->place.position;
    }
  }
  std::array<std::byte, kBlocksPerMap * 4> raw;
  while (index < end) {
    if (index > 0) {
      block_lists_->add(ref, index / kBlocksPerMap, {list.block(), list.offset(), position});
    }
    const std::uint64_t take = std::min(kBlocksPerMap, end - index);
    list.read(std::span(raw).first(take * 4));
    for (std::uint64_t i = 0; i < take; ++i, ++index) {
      const auto size_field = load_le<std::uint32_t>(raw, i * 4);
      const Block entry = block_at(position, size_field);
      if (index >= map.first) map.blocks.push_back(entry);
      position += entry.stored_size;
    }
  }
}

std::size_t Image::read_block(const Block& block, std::span<std::byte> output) const {
  const auto cut = [&] {
    throw_corrupt("it ends inside the block at byte " + std::to_string(block.position));
  };
  if (block.stored_size > output.size()) throw_corrupt("a block is too large");
  if (!block.compressed) {
    const std::span<std::byte> bytes = output.first(block.stored_size);
    if (file_->read(bytes, block.position) != bytes.size()) cut();
    return block.stored_size;
  }
  // Kept by each thread: as large as a block, and every read of the image needs it.
  thread_local std::vector<std::byte> stored;
  if (stored.size() < block.stored_size) stored.resize(superblock_.block_size);
  const std::span<std::byte> input = std::span(stored).first(block.stored_size);
  if (file_->read(input, block.position) != input.size()) cut();
  const auto size = decompress_(input, output);
  if (!size) {
    throw_corrupt("the block at byte " + std::to_string(block.position) +
                  " cannot be decompressed");
  }
  return *size;
}

void Image::read_ahead(const Block& block) const {
  file_->read_ahead(block.position, block.stored_size);
}

void Image::forget_stored(const Block& block) const {
  // The page that it begins in was the block's before; the one that it ends in is the next one's.
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t before = std::min((file_->offset() + block.position) % kPage, block.position);
  file_->forget(block.position - before, block.stored_size + before);
}

void Image::forget_stored() const { file_->forget(0, superblock_.bytes_used); }

std::optional<InodeRef> find_path(const Image& image, std::string_view path) {
  InodeRef inode = image.root();
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    if (end > 0) {
      const std::optional<DirectoryEntry> entry = image.lookup(inode, path.substr(0, end));
      if (!entry) return std::nullopt;
      inode = entry->inode;
    }
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return inode;
}

std::optional<std::string> path_of(const Image& image, InodeRef inode) {
  if (inode == image.root()) return "/";
  // It is for a line of the log: an image with any number of entries is not searched for long.
  constexpr int kMostEntries = 100'000;
  const MetadataLimit limit;
  std::optional<std::string> found;
  try {
    walk_tree(image, [&, seen = 0](const TreeEntry& visited) mutable {
      if (visited.entry.inode == inode) found = '/' + visited.path;
      return !found && ++seen < kMostEntries;
    });
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the metadata are damaged as well.
  }
  return found;
}

std::string read_image_file(const Image& image, InodeRef file, std::uint64_t limit) {
  FileMap map = image.file_map(file, 0);
  if (map.file_size > limit) {
    throw Error(ExitCode::kBadImage, "a file of the image is larger than it may be", EFBIG);
  }
  std::string content(map.file_size, '\0');
  std::vector<std::byte> block(map.block_size);
  for (std::uint64_t done = 0; done < map.file_size;) {
    if (!covers(map, done)) map = image.file_map(file, done / map.block_size);
    const Extent extent = extent_at(map, done);
    if (!extent.block.is_hole()) {
      const std::size_t size = image.read_block(extent.block, block);
      const auto bytes = bytes_of(extent, std::span(block).first(size));
      std::memcpy(&content[done], bytes.data(), bytes.size());
    }
    done += extent.length;
  }
  return content;
}

}  // namespace pyram
