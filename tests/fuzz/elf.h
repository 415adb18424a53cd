// Everything that reads and changes an ELF file.
#pragma once

#include <cstddef>
#include <span>

namespace pyram::test {

// Does with the bytes of a library what a build does: unwind tables dropped, a fixed address or
// packed relocations, pages ordered by use. Each step is an Error, or leaves a file that can be
// read again. Returns how many steps changed the file.
int improve_elf(std::span<const std::byte> bytes);

}  // namespace pyram::test
