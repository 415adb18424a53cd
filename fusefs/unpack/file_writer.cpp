#include "fusefs/unpack/file_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "support/io.h"

namespace pyram {
UniqueFd create_file(const Plan& plan, const PlannedFile& file) {
  UniqueFd fd(::openat(plan.root_fd.get(), file.path.c_str(),
                       O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                       file.attributes.mode & 0777));
  if (!fd) throw plan.cannot("create ", file.path);
  // Holes, and an all-zero end, are then there already.
  if (file.attributes.size != 0 &&
      ::ftruncate(fd.get(), static_cast<off_t>(file.attributes.size)) != 0) {
    throw plan.cannot("write ", file.path);
  }
  return fd;
}

FileWriter::FileWriter(const Image& image, const Plan& plan)
    : image_(image),
      plan_(plan),
      block_(image.superblock().block_size),
      fragment_(image.superblock().block_size) {}

void FileWriter::write(int fd, const PlannedFile& file, std::uint64_t begin, std::uint64_t end) {
  try {
    write_content(fd, file, begin, end);
  } catch (const Error& error) {
    throw of_file(error, file.path);
  }
  const Times times(file.attributes);
  if (::futimens(fd, times.values) != 0) throw plan_.cannot("write ", file.path);
}

void FileWriter::write_content(int fd, const PlannedFile& file, std::uint64_t begin,
                               std::uint64_t end) {
  std::optional<FileMap> map;
  for (std::uint64_t done = begin; done < end;) {
    if (!map || !covers(*map, done)) {
      map = image_.file_map(file.inode, done / image_.superblock().block_size);
    }
    const Extent extent = extent_at(*map, done);
    if (!extent.block.is_hole() && !pwrite_full(fd, bytes_of(extent, block_of(extent)), done)) {
      throw plan_.cannot("write ", file.path);
    }
    done += extent.length;
  }
}

void FileWriter::write_whole(const PlannedFile& file) {
  const UniqueFd fd = create_file(plan_, file);
  write(fd.get(), file, 0, file.attributes.size);
}

std::span<const std::byte> FileWriter::block_of(const Extent& extent) {
  if (extent.is_whole_block()) {
    return std::span(block_).first(image_.read_block(extent.block, block_));
  }
  // Neighbours share a fragment block.
  if (fragment_position_ != extent.block.position) {
    fragment_position_.reset();
    fragment_length_ = image_.read_block(extent.block, fragment_);
    fragment_position_ = extent.block.position;
  }
  return std::span(fragment_).first(fragment_length_);
}

}  // namespace pyram
