#include "tests/reliability/contents.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <sstream>
#include <vector>

#include "fusefs/serve/block_cache.h"
#include "support/io.h"
#include "tests/reliability/readers.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"

namespace pyram::test {
namespace {

namespace fs = std::filesystem;

// As the daemon reads: by a cache of blocks, extent by extent.
void add_file(std::ostream& out, ExtentMapper& reader, InodeRef file) {
  for (std::uint64_t offset = 0;;) {
    const Extent extent = reader.extent_at(file, offset);
    if (extent.length == 0) return;
    offset = extent.file_offset + extent.length;
    if (extent.block.is_hole()) {
      out << "hole " << extent.length << '\n';
      continue;
    }
    const BlockCache::Pin pin = reader.pin(extent);
    const auto bytes = ExtentMapper::bytes(extent, pin);
    out.write(reinterpret_cast<const char*>(bytes.data()),  // NOLINT
              static_cast<std::streamsize>(bytes.size()));
  }
}

}  // namespace

std::string contents_of(const Image& image) {
  Statistics statistics;
  BlockCache cache(image, statistics, std::size_t{1} << 20, 1);
  ExtentMapper reader(image, cache);
  return contents_of(image, reader);
}

std::string contents_of(const Image& image, ExtentMapper& reader) {
  std::ostringstream out;
  out.exceptions(std::ios::badbit);
  std::vector<std::pair<InodeRef, std::string>> directories = {{image.root(), "/"}};
  while (!directories.empty()) {
    const auto [directory, path] = std::move(directories.back());
    directories.pop_back();
    if (const auto parent = image.parent(directory)) out << "parent " << parent->value << '\n';
    ListingCursor listing = image.open_listing(directory);
    while (const auto entry = Image::next_entry(listing)) {
      const Attributes attributes = image.attributes(entry->inode);
      out << path << entry->name << ' ' << attributes.mode << ' ' << attributes.uid << ' '
          << attributes.gid << ' ' << attributes.size << ' ' << attributes.mtime << ' '
          << attributes.nlink << ' ' << attributes.inode_number << ' ' << attributes.device << '\n';
      const auto found = image.lookup(directory, entry->name);
      if (!found || !(found->inode == entry->inode)) out << "differs when looked up\n";
      for (const std::string& name : image.xattr_names(entry->inode)) {
        out << name << '=' << image.xattr(entry->inode, name).value_or("none") << '\n';
      }
      if (S_ISDIR(attributes.mode))
        directories.emplace_back(entry->inode, path + entry->name + '/');
      if (S_ISLNK(attributes.mode)) out << image.link_target(entry->inode) << '\n';
      if (S_ISREG(attributes.mode)) add_file(out, reader, entry->inode);
    }
  }
  return std::move(out).str();
}

void append_merkle_tree(const fs::path& image) {
  const fs::path key = image.parent_path() / "key.pem";
  REQUIRE(run({.arguments = {"openssl", "genpkey", "-algorithm", "ed25519", "-out", key.native()}})
              .ok());
  const Outcome outcome =
      run({.arguments = {program("pyram-image"), "sign", image.native(), "--key", key.native()}});
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
}

fs::path make_sealed_image(const fs::path& directory) {
  const fs::path tree = directory / "tree";
  make_files(tree / "data", 3, 40'000);
  fs::create_directories(tree / "names");
  for (int i = 0; i < 30; ++i) {
    write_file(tree / "names" / ("name-" + std::to_string(i)), "tail " + std::to_string(i));
  }
  fs::create_symlink("../data/file-0", tree / "names/link");
  fs::create_hard_link(tree / "data/file-1", tree / "names/hard");
  fs::create_directories(tree / "deep/deeper");
  // Whether the system keeps it is its affair: then this part of the format is tested elsewhere.
  static_cast<void>(::setxattr((tree / "data/file-0").c_str(), "user.pyram", "value", 5, 0));
  const fs::path image =
      make_image(tree, directory / "image.sqfs", {"-noI", "-noD", "-noF", "-noX", "-b", "16K"});
  append_merkle_tree(image);
  return image;
}

}  // namespace pyram::test
