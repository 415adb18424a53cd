#include "image-builder/elf/loaded.h"

#include <algorithm>
#include <cstring>

#include "image-builder/elf/architecture.h"
#include "image-builder/elf/edit.h"

namespace pyram::builder {
LoadedElf::LoadedElf(const ElfView& elf, std::span<const std::byte> bytes, std::uint64_t bias) {
  for (const Elf64_Phdr& segment : elf.program_headers()) {
    if (segment.p_type != PT_LOAD || segment.p_filesz == 0) continue;
    const auto content =
        bytes.subspan(elf.file_offset(segment.p_vaddr, segment.p_filesz), segment.p_filesz);
    segments_.push_back({segment.p_vaddr + bias, {content.begin(), content.end()}});
  }
  std::sort(segments_.begin(), segments_.end(),
            [](const Segment& a, const Segment& b) { return a.address < b.address; });

  for (const std::uint64_t address : read_packed_relocations(elf)) (void)add(address + bias, bias);
  const Architecture* const known = find_architecture(elf.header().e_machine);
  const Architecture& architecture = known != nullptr ? *known : own_architecture();
  for (const Elf64_Rela& relocation : read_relocations(elf)) {
    const auto addend = static_cast<std::uint64_t>(relocation.r_addend);
    set(relocation.r_offset + bias, ELF64_R_TYPE(relocation.r_info) == architecture.relative
                                        ? bias + addend
                                        : relocation.r_info * 31 + addend);
  }
  for (const Elf64_Rela& relocation : read_relocations(elf, DT_JMPREL, DT_PLTRELSZ)) {
    // Until a function is called, its slot leads to the code that looks it up.
    if (ELF64_R_TYPE(relocation.r_info) == architecture.slot)
      (void)add(relocation.r_offset + bias, bias);
  }
}

std::byte* LoadedElf::word_at(std::uint64_t address) {
  const auto next = std::upper_bound(
      segments_.begin(), segments_.end(), address,
      [](std::uint64_t value, const Segment& segment) { return value < segment.address; });
  if (next == segments_.begin()) return nullptr;
  Segment& segment = *(next - 1);
  const std::uint64_t inside = address - segment.address;
  if (segment.bytes.size() < kWord || inside > segment.bytes.size() - kWord) return nullptr;
  return segment.bytes.data() + inside;
}

bool LoadedElf::add(std::uint64_t address, std::uint64_t addend) {
  std::byte* const word = word_at(address);
  if (word == nullptr) return false;
  std::uint64_t value = 0;
  std::memcpy(&value, word, kWord);
  value += addend;
  std::memcpy(word, &value, kWord);
  return true;
}

// A word outside what the file holds (.bss) is written by the loader in the original and in the
// changed file alike, or else their relocations differ.
void LoadedElf::set(std::uint64_t address, std::uint64_t value) {
  if (std::byte* const word = word_at(address)) std::memcpy(word, &value, kWord);
}

void LoadedElf::forget(const AddressRange& range) {
  for (Segment& segment : segments_) {
    const std::uint64_t end = segment.address + segment.bytes.size();
    const std::uint64_t from = std::max(range.begin, segment.address);
    const std::uint64_t to = std::min(range.end, end);
    if (from < to) std::memset(segment.bytes.data() + (from - segment.address), 0, to - from);
  }
}

bool LoadedElf::same_as(const LoadedElf& other) const {
  return std::equal(segments_.begin(), segments_.end(), other.segments_.begin(),
                    other.segments_.end(), [](const Segment& a, const Segment& b) {
                      return a.address == b.address &&
                             std::memcmp(a.bytes.data(), b.bytes.data(),
                                         std::min(a.bytes.size(), b.bytes.size())) == 0;
                    });
}

}  // namespace pyram::builder
