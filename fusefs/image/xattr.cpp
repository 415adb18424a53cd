// Extended attributes: Image's part that most images have no use for.
#include <sys/stat.h>

#include <array>

#include "fusefs/image/bytes.h"
#include "fusefs/image/image.h"

namespace pyram {
namespace {

constexpr std::array<std::string_view, 3> kPrefixes = {"user.", "trusted.", "security."};
constexpr std::uint16_t kStoredElsewhere = 0x100;  // The value is a reference to where it lies.
constexpr std::uint32_t kMostAttributes = 65536;  // More than there is room for in a list of names.
constexpr std::uint32_t kLongestValue = 65536;    // What Linux takes at most.

}  // namespace

void Image::open_xattrs() {
  if (superblock_.xattr_table == Superblock::kNoTable) return;
  std::array<std::byte, 16> raw;
  if (file_->read(raw, superblock_.xattr_table) != raw.size()) {
    throw_corrupt("its attribute table is cut");
  }
  xattr_start_ = load_le<std::uint64_t>(raw, 0);
  xattr_count_ = load_le<std::uint32_t>(raw, 8);
}

void Image::visit_xattrs(InodeRef ref, const XattrVisitor& visit) const {
  const Inode owner = inode(ref);
  if (xattr_count_ == 0 || owner.xattrs == Inode::kNone) return;
  if (owner.xattrs >= xattr_count_) throw_corrupt("attributes are not in their table");
  const auto id = table_entry(superblock_.xattr_table + 16, owner.xattrs, 16).read<16>();
  const auto place = load_le<std::uint64_t>(id, 0);
  MetadataCursor cursor(*metadata_, xattr_start_ + (place >> 16),
                        static_cast<std::uint32_t>(place & 0xffff));
  const auto count = load_le<std::uint32_t>(id, 8);
  if (count > kMostAttributes) throw_corrupt("a file has too many attributes");
  for (std::uint32_t left = count; left > 0; --left) {
    const auto entry = cursor.read<4>();
    const auto type = load_le<std::uint16_t>(entry, 0);
    std::string name(load_le<std::uint16_t>(entry, 2), '\0');
    cursor.read(std::as_writable_bytes(std::span(name)));
    const std::size_t prefix = type & 0xffU;
    const MetadataCursor value = cursor;
    // A prefix that we don't know is one that the kernel would not know either.
    if (prefix < kPrefixes.size() && name.find('\0') == std::string::npos &&
        !visit(std::string(kPrefixes[prefix]).append(name), value,
               (type & kStoredElsewhere) != 0)) {
      return;
    }
    cursor.skip(load_le<std::uint32_t>(cursor.read<4>(), 0));
  }
}

std::vector<std::string> Image::xattr_names(InodeRef inode) const {
  std::vector<std::string> names;
  std::size_t bytes = 0;
  visit_xattrs(inode, [&](const std::string& name, const MetadataCursor&, bool) {
    bytes += name.size() + 1;
    names.push_back(name);
    return bytes <= kLongestValue;
  });
  return names;
}

std::optional<std::string> Image::xattr(InodeRef inode, std::string_view wanted) const {
  std::optional<std::string> result;
  visit_xattrs(inode, [&](const std::string& name, MetadataCursor value, bool elsewhere) {
    if (name != wanted) return true;
    auto size = load_le<std::uint32_t>(value.read<4>(), 0);
    if (elsewhere) {
      if (size != 8) throw_corrupt("an attribute's place has a false length");
      const auto place = load_le<std::uint64_t>(value.read<8>(), 0);
      value = MetadataCursor(*metadata_, xattr_start_ + (place >> 16),
                             static_cast<std::uint32_t>(place & 0xffff));
      size = load_le<std::uint32_t>(value.read<4>(), 0);
    }
    if (size > kLongestValue) throw_corrupt("an attribute is too long");
    result.emplace(size, '\0');
    value.read(std::as_writable_bytes(std::span(*result)));
    return false;
  });
  return result;
}

}  // namespace pyram
