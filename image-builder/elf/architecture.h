// What differs between the processors that images are made for, in one table.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pyram::builder {

struct Architecture {
  std::string_view debian;   // As Debian calls it: "amd64".
  std::string_view machine;  // As the kernel and qemu call it: "x86_64".
  std::uint16_t elf = 0;     // e_machine.
  std::uint64_t page = 0;    // The largest page that its kernels use.
  std::uint32_t relative = 0;
  std::uint32_t slot = 0;
  // Relocations by a symbol, and those for thread-local variables.
  std::array<std::uint32_t, 3> by_symbol;
  std::array<std::uint32_t, 4> for_threads;
  // Tags of the dynamic section, of this processor only, that hold no address.
  std::vector<std::int64_t> values;

  [[nodiscard]] std::uint64_t page_down(std::uint64_t value) const { return value & ~(page - 1); }
  [[nodiscard]] std::uint64_t page_up(std::uint64_t value) const {
    return page_down(value + page - 1);
  }
};

// The architecture of an ELF file, by its e_machine; null for one that isn't in the table.
[[nodiscard]] const Architecture* find_architecture(std::uint16_t elf);

// By Debian's name or the kernel's. Throws Error (kUsage) for one that isn't in the table.
[[nodiscard]] const Architecture& architecture_named(std::string_view name);

// That of this program.
[[nodiscard]] const Architecture& own_architecture();

}  // namespace pyram::builder
