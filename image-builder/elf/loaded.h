// A shared library in memory as glibc's loader makes it, to prove that a changed file is the same
// program as the original.
//
// Source: the generic ABI's chapter "Program Loading and Dynamic Linking", and the processors'
// supplements for the relocations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "image-builder/elf/file.h"

namespace pyram::builder {

struct AddressRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// The bytes that a file's PT_LOAD segments hold, relocated. Words that depend on symbols hold a
// number made of what the relocation says: equal relocations make equal words. Addresses are those
// at run time. Not thread-safe; owns its bytes.
class LoadedElf {
 public:
  // Loads the file `bytes` with its first address at the linked one plus `bias`.
  // Throws Error (kBadSource) when the file is broken.
  LoadedElf(const ElfView& elf, std::span<const std::byte> bytes, std::uint64_t bias);

  // Adds to a word, as a relative relocation does. False for an address that nothing was loaded to.
  [[nodiscard]] bool add(std::uint64_t address, std::uint64_t addend);

  // Takes a range out of the comparison.
  void forget(const AddressRange& range);

  // Whether all that both hold is equal. Segments have to begin at the same addresses; one may be
  // longer than its counterpart.
  [[nodiscard]] bool same_as(const LoadedElf& other) const;

 private:
  struct Segment {
    std::uint64_t address = 0;
    std::vector<std::byte> bytes;
  };

  [[nodiscard]] std::byte* word_at(std::uint64_t address);
  void set(std::uint64_t address, std::uint64_t value);

  std::vector<Segment> segments_;  // By address.
};

}  // namespace pyram::builder
