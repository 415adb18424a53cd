#include "fusefs/image/image_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "support/error.h"
#include "support/io.h"

namespace pyram {
namespace {

// Runs `read`, whose own errors don't know of which file they are, nor for whom.
template <typename Read>
auto naming(const std::string& name, Read&& read) {
  try {
    return read();
  } catch (const Error& error) {
    if (error.code() != ExitCode::kFailed) throw;
    throw Error(ExitCode::kFailed, "cannot use the image " + name + ": " + error.what(), EIO);
  }
}

}  // namespace

ImageFile::ImageFile(UniqueFd file, std::string name, std::uint64_t offset,
                     std::unique_ptr<PartialImage> partial)
    : file_(std::move(file)),
      name_(std::move(name)),
      offset_(offset),
      partial_(std::move(partial)) {
  // Where this fails, so does all else.
  static_cast<void>(::fstat(file_.get(), &opened_));
}

ImageFile ImageFile::copy() const {
  UniqueFd other(::fcntl(file_.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!other) throw system_error(ExitCode::kFailed, errno, "copy a descriptor");
  return {std::move(other), name_, offset_, partial_ ? partial_->copy() : nullptr};
}

bool ImageFile::was_overwritten() const {
  if (partial_) return false;  // It is being written to.
  struct stat now {};
  // Not ::fstat(), which some C libraries make by newfstatat: a confined process may not call that.
  // The kernel's structure is the C library's on 64-bit machines.
  if (::syscall(SYS_fstat, file_.get(), &now) != 0) return false;
  return now.st_size != opened_.st_size || now.st_mtim.tv_sec != opened_.st_mtim.tv_sec ||
         now.st_mtim.tv_nsec != opened_.st_mtim.tv_nsec;
}

std::uint64_t ImageFile::size() const {
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) {
    throw system_error(ExitCode::kBadImage, errno, "read " + name_);
  }
  std::uint64_t length = 0;
  if (S_ISBLK(status.st_mode)) {
    // A block device has no size of its own, but ends somewhere.
    length = static_cast<std::uint64_t>(::lseek(file_.get(), 0, SEEK_END));
  } else if (S_ISREG(status.st_mode)) {
    length = static_cast<std::uint64_t>(status.st_size);
  } else {
    throw Error(ExitCode::kBadImage, "cannot use " + name_ + " as an image: it is not a file");
  }
  return length - std::min(length, offset_);
}

void ImageFile::verify(std::uint64_t squashfs_size) {
  // Behind the data everything comes at once.
  await(trailer_position(squashfs_size), Trailer::kSize);
  tree_ =
      naming(name_, [&] { return MerkleTree::read(file_.get(), offset_, squashfs_size, name_); });
  if (!tree_) {
    throw Error(ExitCode::kVerification,
                "cannot verify the image " + name_ +
                    ": it has no Merkle tree behind its last byte; build it with pyram-image, or "
                    "mount it without --verify");
  }
}

std::size_t ImageFile::read_stored(std::span<std::byte> buffer, std::uint64_t position) const {
  if (partial_) partial_->await({offset_ + position, buffer.size()});
  return naming(name_, [&] { return pread_full(file_.get(), buffer, offset_ + position); });
}

std::size_t ImageFile::read(std::span<std::byte> buffer, std::uint64_t position) const {
  if (!tree_) return read_stored(buffer, position);
  if (buffer.empty()) return 0;
  if (position > tree_->trailer().data_size ||
      buffer.size() > tree_->trailer().data_size - position) {
    throw Error(ExitCode::kBadImage, "the image " + name_ + " is corrupt: it refers to byte " +
                                         std::to_string(position) + ", behind its end");
  }
  // Hashes are of whole blocks. Kept by each thread: every read of the image needs it.
  thread_local std::vector<std::byte> blocks;
  const MerkleTree::Range range = tree_->covering(position, buffer.size());
  if (blocks.size() < range.length) blocks.resize(range.length);
  const std::span<std::byte> whole = std::span(blocks).first(range.length);
  if (read_stored(whole, range.position) != whole.size()) {
    throw Error(ExitCode::kBadImage,
                "the image " + name_ + " is truncated at byte " + std::to_string(range.position) +
                    "; copy or build it again",
                EIO);
  }
  check(range.position, whole);
  std::ranges::copy(whole.subspan(position - range.position, buffer.size()), buffer.begin());
  return buffer.size();
}

void ImageFile::await_parts(std::uint64_t position, std::uint64_t length) const {
  if (!tree_ || length == 0 || position > tree_->trailer().data_size ||
      length > tree_->trailer().data_size - position) {
    return;  // The read says what is wrong with that.
  }
  const MerkleTree::Range range = tree_->covering(position, length);
  partial_->await({offset_ + range.position, range.length});
}

void ImageFile::check(std::uint64_t position, std::span<const std::byte> bytes) const {
  try {
    tree_->check(position, bytes);
  } catch (const Error&) {
    // It was right when it came; it is fetched again.
    if (partial_) partial_->doubt({offset_ + position, bytes.size()});
    throw;
  }
}

void ImageFile::expect_random_reads() const {
  ::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_RANDOM);
}

void ImageFile::read_ahead(std::uint64_t position, std::uint64_t length) const {
  ::posix_fadvise(file_.get(), static_cast<off_t>(offset_ + position), static_cast<off_t>(length),
                  POSIX_FADV_WILLNEED);
}

void ImageFile::forget(std::uint64_t position, std::uint64_t length) const {
  ::posix_fadvise(file_.get(), static_cast<off_t>(offset_ + position), static_cast<off_t>(length),
                  POSIX_FADV_DONTNEED);
}

}  // namespace pyram
