// Packs an ELF file's relative relocations as DT_RELR.
//
// A relative relocation says "add the load address to the word at this place". As RELA each takes
// 24 bytes, and PyPy's library has 700,000 of them, side by side: 17 MB that the loader reads at
// every start. As DT_RELR a whole run of words takes one bit each.
//
// The file is changed in place and nothing in it moves: the freed room takes the new table, a copy
// of the string table with one name more, and a copy of the version needs with GLIBC_ABI_DT_RELR,
// by which glibc wants to be told (2.36 and later; an image brings its own). What remains of the
// room is zeros, which no start touches and which compress to nothing.
//
// Formats: generic ABI, "SHT_RELR" (bitmap encoding); glibc's NEWS for 2.36; LSB 5.0, "Symbol
// Versioning". The idea of doing it behind the linker's back is ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pyram::builder {

struct RelrResult {
  std::uint64_t packed = 0;  // Relocations; 0: the file was left as it is.
  std::uint64_t freed = 0;   // Bytes that no start reads any more.
};

// Changes `bytes`, the content of a 64-bit little-endian ELF file, or leaves them alone where
// packing wouldn't pay or there is no room. `name` is for messages.
// Throws Error (kBadSource) when the file is broken, kFailed when the result, checked by applying
// both files' relocations at two load addresses, would differ from the original.
RelrResult pack_relative_relocations(std::vector<std::byte>& bytes, const std::string& name);

// The addresses of a DT_RELR table's relocations, in order. `words` is the table.
[[nodiscard]] std::vector<std::uint64_t> decode_relr(const std::vector<std::uint64_t>& words);

// The table for addresses that are sorted, even and different.
[[nodiscard]] std::vector<std::uint64_t> encode_relr(const std::vector<std::uint64_t>& addresses);

}  // namespace pyram::builder
