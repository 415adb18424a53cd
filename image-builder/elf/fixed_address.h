// Gives a shared library an address of its own, at which it is loaded without being relocated.
//
// A library that can be loaded anywhere holds addresses as if it began at 0, and the loader adds
// the real beginning to each: 730,000 words of PyPy's library, 18.7 MB of memory that each process
// then has for itself. Here the program headers name an address, and the words already hold what
// they hold at that address. glibc's loader asks the kernel for the place of the first segment's
// address, and the kernel grants it where nothing else is: then there is nothing to relocate, and
// data stays in the page cache, shared by all processes, until a process writes to it.
//
// Where the kernel gives another place, code that is put into the library (self_relocation.cpp)
// runs first and relocates it. So the result is correct at any address.
//
// The idea is that of prelink(8) and of AIX's and Windows's preferred addresses; what is new is
// that the loader isn't told (no DT_GNU_PRELINKED, which glibc 2.36 gave up) and needn't be.
// Formats: generic ABI, "Program Loading and Dynamic Linking" and "SHT_RELR".
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "image-builder/elf/file.h"

namespace pyram::builder {

// Where libraries are put: above what 32-bit programs use, and below the 2^38 bytes that the
// smallest of AArch64's usual address spaces (39 bits) leave half of to everything else.
inline constexpr std::uint64_t kLowestAddress = std::uint64_t{4} << 30;
inline constexpr std::uint64_t kHighestAddress =
    (std::uint64_t{1} << 38) - (std::uint64_t{4} << 30);
// What addresses are a multiple of: larger than any page, so that huge pages stay possible.
inline constexpr std::uint64_t kAddressUnit = std::uint64_t{2} << 20;

// The part of the address space that a file's segments take, from its first page to its last.
struct AddressSpan {
  std::uint64_t begin = 0;  // 0: it can be loaded anywhere.
  std::uint64_t end = 0;
};
[[nodiscard]] AddressSpan address_span(const ElfView& elf);

struct FixedAddress {
  std::uint64_t relocations = 0;  // Applied in the file; 0: the file was left as it is.
  std::string why_not;            // Why; empty for a file with too few relocations to matter.
};

// Changes `bytes`, the content of a 64-bit little-endian ELF file, so that it is loaded at
// `address`, a multiple of kAddressUnit. Leaves alone what it doesn't know to be safe: programs,
// libraries that have an address already, that relocate their code, that choose functions while
// they are being relocated (IFUNC), or that have no room for what has to be added.
// Throws Error (kBadSource) when the file is broken, kFailed when the result, checked byte by byte
// against what the loader would have made of the original, would be another program.
FixedAddress fix_address(std::vector<std::byte>& bytes, std::uint64_t address,
                         const std::string& name);

// Addresses for files, given by what each of them is called and takes: one after the other, from a
// beginning that `seed` decides, none overlapping another or one of `taken`. Empty when the space
// is too small.
[[nodiscard]] std::map<std::string, std::uint64_t> choose_addresses(
    const std::map<std::string, std::uint64_t>& sizes, const std::vector<AddressSpan>& taken,
    std::uint64_t seed);

}  // namespace pyram::builder
