// Reads what the builder has to know of an ELF file: which libraries it needs, where it looks for
// them, which loader it names.
//
// Source of the format: "System V Application Binary Interface", chapters 4 and 5, and <elf.h>.
// 64-bit little-endian files only, which is all that PyPy is built for on Linux today. Every offset
// that a file holds is checked: a broken file is an Error (kBadSource), never a crash.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pyram::builder {

// What the dynamic section says.
struct ElfFacts {
  std::vector<std::string> needed;  // DT_NEEDED, in order.
  std::vector<std::string>
      run_paths;              // DT_RUNPATH, or DT_RPATH where that is missing; split at ':'.
  std::string soname;         // DT_SONAME, or empty.
  std::string loader;         // PT_INTERP, or empty.
  std::uint16_t machine = 0;  // e_machine.
};

// A view on the bytes of one ELF file. Doesn't own them. Thread-safe (read-only).
class ElfView {
 public:
  // `name` is for messages. Throws Error (kBadSource) when this is no ELF file of the kind above.
  ElfView(std::span<const std::byte> bytes, std::string name);

  [[nodiscard]] const Elf64_Ehdr& header() const { return header_; }
  [[nodiscard]] std::vector<Elf64_Phdr> program_headers() const;
  // The dynamic section's entries without the closing DT_NULL; empty in a static file.
  [[nodiscard]] std::vector<Elf64_Dyn> dynamic() const;
  [[nodiscard]] std::optional<std::uint64_t> dynamic_value(std::int64_t tag) const;
  // Where the byte at a virtual address lies in the file.
  [[nodiscard]] std::uint64_t file_offset(std::uint64_t address, std::uint64_t size = 1) const;
  [[nodiscard]] std::string_view text_at(std::uint64_t offset) const;
  [[nodiscard]] ElfFacts facts() const;
  [[nodiscard]] const std::string& name() const { return name_; }

  // A structure at an offset of the file, copied (it need not be aligned there).
  template <typename T>
  [[nodiscard]] T at(std::uint64_t offset) const {
    T value;
    copy(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

 private:
  void copy(std::uint64_t offset, std::span<std::byte> into) const;

  std::span<const std::byte> bytes_;
  std::string name_;
  Elf64_Ehdr header_{};
};

// Whether a file begins as ELF files do. False for what cannot be read.
[[nodiscard]] bool is_elf(const std::filesystem::path& path);

// e_machine of a file that is_elf(); EM_NONE where it is too short.
[[nodiscard]] std::uint16_t machine_of(const std::filesystem::path& path);

// The facts of a file on disk. Throws Error (kBadSource).
[[nodiscard]] ElfFacts read_elf_facts(const std::filesystem::path& path);

}  // namespace pyram::builder
