// What the files that change an ELF file share: the names of newer tags, relocations, and writing
// into bytes.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <vector>

#include "image-builder/elf/file.h"
#include "support/error.h"

namespace pyram::builder {

// Newer than some <elf.h>.
inline constexpr std::int64_t kDtRelrSize = 35;
inline constexpr std::int64_t kDtRelr = 36;
inline constexpr std::int64_t kDtRelrEntry = 37;

// Bytes of an address.
inline constexpr std::uint64_t kWord = 8;

// A file with fewer relative relocations is not worth a change.
inline constexpr std::uint64_t kFewestRelocations = 1000;

// The smallest page of any processor: where a kernel maps a file's last bytes, zeros follow up to
// the end of such a page at least.
inline constexpr std::uint64_t kSmallestPage = 4096;

// The entries of DT_RELA, or of the table that two other tags name; empty without one.
[[nodiscard]] std::vector<Elf64_Rela> read_relocations(const ElfView& elf,
                                                       std::int64_t table = DT_RELA,
                                                       std::int64_t size = DT_RELASZ);

// The addresses that the DT_RELR table of a file names, in order; empty without one.
[[nodiscard]] std::vector<std::uint64_t> read_packed_relocations(const ElfView& elf);

// A file's content, and its replacement under the same mode. Throw Error.
[[nodiscard]] std::vector<std::byte> read_bytes(const std::filesystem::path& file);
void replace_bytes(const std::filesystem::path& file, std::span<const std::byte> bytes);

template <typename T>
void append(std::vector<std::byte>& to, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

// Appends zeros until the size is a multiple of `alignment`.
inline void pad(std::vector<std::byte>& to, std::size_t alignment) {
  while (to.size() % alignment != 0) to.push_back(std::byte{0});
}

// Overwrites the bytes at `offset`. Throws Error (kFailed) past the end: a fault of ours.
template <typename T>
void put(std::vector<std::byte>& bytes, std::uint64_t offset, const T& value) {
  if (offset > bytes.size() || sizeof value > bytes.size() - offset) {
    throw Error(ExitCode::kFailed, "internal error: a write behind an ELF file's end");
  }
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

}  // namespace pyram::builder
