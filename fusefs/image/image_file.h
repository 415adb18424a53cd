// The file that an image lies in: the one place that reads an image's bytes, and checks them where
// it is told to.
//
// Checked is what is used: the bytes that a read got, each time, against hashes in our own memory.
// So a page of the file that was dropped and comes from the disk again is checked again; there is
// nothing to remember about blocks, and no moment between a check and the use. Thread-safe.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "fusefs/image/merkle_tree.h"
#include "fusefs/image/partial_image.h"
#include "support/unique_fd.h"

namespace pyram {

class ImageFile {
 public:
  // The SquashFS starts `offset` bytes into `file`. `name` is for messages, quoted. `partial`: what
  // knows which bytes are here, where not all are; `file` has its data.
  ImageFile(UniqueFd file, std::string name, std::uint64_t offset,
            std::unique_ptr<PartialImage> partial = nullptr);

  // Another one of the same open file. Throws Error (kFailed).
  [[nodiscard]] ImageFile copy() const;
  // Of an image that is being fetched; otherwise nullptr.
  [[nodiscard]] PartialImage* partial() const { return partial_.get(); }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  [[nodiscard]] int descriptor() const { return file_.get(); }
  // Of the file, from offset() on. Throws Error (kBadImage).
  [[nodiscard]] std::uint64_t size() const;

  // Whether somebody has written into the file since it was opened: what comes out of it then is
  // neither the old image nor a new one.
  [[nodiscard]] bool was_overwritten() const;

  // From now on, every read checks what it got. The hashes are kept: 8 bytes for each KiB of the
  // image. Throws Error: kVerification where the image has no Merkle tree or it doesn't fit itself,
  // kBadImage where it makes no sense. Not thread-safe: comes before all reads by other threads.
  void verify(std::uint64_t squashfs_size);
  [[nodiscard]] bool verifies() const { return tree_.has_value(); }

  // Fills `buffer` from `position` of the image. Returns how many bytes there were: fewer than
  // asked for only at the end of the file, and never where the file verifies. Throws Error:
  // kFailed when reading fails (EIO, whatever it fails of: what a system call says of the image's
  // file may mean something else of a file in it), kVerification (EIO) for other bytes than those
  // that were packed.
  [[nodiscard]] std::size_t read(std::span<std::byte> buffer, std::uint64_t position) const;

  // Returns at once unless the image is being fetched: then as PartialImage::await(), of all that a
  // read of these bytes needs.
  void await(std::uint64_t position, std::uint64_t length) const {
    if (partial_) await_parts(position, length);
  }

  // Has the system read what is asked for and nothing around it, until the file is closed.
  void expect_random_reads() const;
  // Has the disk begin to read a range.
  void read_ahead(std::uint64_t position, std::uint64_t length) const;
  // Has the system let go of what it keeps of a range.
  void forget(std::uint64_t position, std::uint64_t length) const;

 private:
  [[nodiscard]] std::size_t read_stored(std::span<std::byte> buffer, std::uint64_t position) const;
  [[gnu::cold]] void await_parts(std::uint64_t position, std::uint64_t length) const;
  void check(std::uint64_t position, std::span<const std::byte> bytes) const;

  UniqueFd file_;
  std::string name_;
  std::uint64_t offset_;
  std::unique_ptr<PartialImage> partial_;
  struct stat opened_ {};           // The file when it was opened.
  std::optional<MerkleTree> tree_;  // Where it verifies.
};

}  // namespace pyram
