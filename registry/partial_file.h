// A file that is being fetched. What is there stays, whatever ends this program, and the next one
// goes on from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "support/unique_fd.h"

namespace pyram::registry {

// Held by one process at a time: others wait. Not thread-safe.
class PartialFile {
 public:
  // Throws Error (kCannotWrite).
  explicit PartialFile(std::filesystem::path path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }

  // Takes the room for so many bytes. Throws Error (kCannotWrite) where there is not enough, before
  // anything is fetched.
  void reserve(std::uint64_t size);
  // Throws Error (kCannotWrite).
  void append(std::span<const std::byte> bytes);
  // Forgets everything that was fetched.
  void clear();
  void remove();

 private:
  std::filesystem::path path_;
  UniqueFd file_;
  std::uint64_t size_ = 0;
};

}  // namespace pyram::registry
