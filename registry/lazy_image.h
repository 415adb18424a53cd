// An image that is being fetched, as its writer has it. fusefs/image/partial_image.h has the form
// of the files, and the reader's side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fusefs/image/partial_image.h"
#include "registry/session.h"
#include "support/locks.h"
#include "support/unique_fd.h"

namespace pyram::registry {

// Where an image comes from, and what it has to be. Kept beside it, for a fetcher that starts
// later. No credentials: they are looked for each time.
struct LazySource {
  std::string name;          // For people: the reference, or the URL.
  std::string url;           // Of the file; asked anew for each range.
  std::string host;          // For whose credentials to look,
  std::string repository;    // and what a token is to allow. Empty for URLs.
  std::string image_digest;  // Of the Merkle tree: what every byte is checked by.
  std::string file_digest;   // Of the whole file, once it is there; empty where unknown.
  std::string target;        // Where the image goes, seen from its directory.
  std::uint64_t rate = 0;    // Bytes a second, of what nobody waits for; 0: as they come.
  SessionOptions session;

  [[nodiscard]] std::unique_ptr<Session> connect(unsigned retries) const;
};

// The directory of an image on its way. Thread-safe as far as threads note different chunks.
class LazyImage {
 public:
  static constexpr std::uint32_t kChunk = 1U << 16;

  // Makes the files in `directory`, in place of what is there, and takes the room for the image.
  // REQUIRES: nobody fetches there. Throws Error (kCannotWrite).
  static void create(const std::filesystem::path& directory, std::uint64_t size,
                     std::uint64_t data_size, const LazySource& source);
  // Throws Error (kBadImage) where there is none, or only a part of one.
  explicit LazyImage(std::filesystem::path directory);

  // Whether nobody else fetches from now on, for as long as this lives.
  [[nodiscard]] bool lock() const;

  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  [[nodiscard]] std::filesystem::path data() const { return directory_ / "data"; }
  [[nodiscard]] int descriptor() const { return data_.get(); }
  [[nodiscard]] int requests() const { return partial_->ask(); }
  [[nodiscard]] const PartialImage& partial() const { return *partial_; }
  [[nodiscard]] const MapHead& sizes() const { return sizes_; }
  [[nodiscard]] std::filesystem::path target() const;
  // Whether the directory still is this one's: another pull may have begun anew.
  [[nodiscard]] bool has_its_directory() const;
  // Whether the image's name still is this one's: a person may have removed it, or another pull
  // have brought it whole.
  [[nodiscard]] bool has_its_name() const;

  [[nodiscard]] LazySource read_source() const;
  void write_source(const LazySource& source) const;

  // The bytes of a chunk.
  [[nodiscard]] ByteRange range_of(std::uint32_t chunk) const;
  [[nodiscard]] bool is_here(std::uint32_t chunk) const;
  // Throws Error (kCannotWrite).
  void write(std::uint64_t position, std::span<const std::byte> bytes) const;
  // Has everything that was written on the disk. Throws Error (kCannotWrite).
  void sync() const;
  // REQUIRES (of `here`): the chunk was checked, and sync() came after its write().
  void note(std::uint32_t chunk, bool here) const;
  // Readers are told.
  void announce() const;

  // For people.
  void set_progress(std::uint64_t here, std::uint64_t rate) const;
  void add_error(std::string_view text) const;
  void clear_error() const;
  // Nothing is missing any more.
  void set_whole() const;

  // Removes the files.
  static void remove(const std::filesystem::path& directory);

 private:
  void write_map(std::uint64_t position, std::span<const std::byte> bytes) const;
  template <typename Value>
  void set(std::size_t position, Value value) const {
    write_map(position, std::as_bytes(std::span(&value, 1)));
  }

  mutable Mutex mutex_;  // Held where a number of the map's head is counted on.
  std::filesystem::path directory_;
  UniqueFd data_;
  UniqueFd map_;
  std::unique_ptr<PartialImage> partial_;
  MapHead sizes_;
};

}  // namespace pyram::registry
