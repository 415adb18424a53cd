#include "image-builder/elf/unwind.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "image-builder/elf/file.h"

namespace pyram::builder {
namespace {

// Head of .eh_frame_hdr: a version, three encodings, and where .eh_frame is.
constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kRelativeWord = 0x1b;  // DW_EH_PE_pcrel | DW_EH_PE_sdata4
constexpr std::uint64_t kWordAt = 4;

bool may_be_unwound(const ElfFacts& facts, const std::string& file) {
  // glibc ends threads by unwinding through its own functions.
  constexpr std::array<std::string_view, 7> kOwn = {
      "libc.so", "libm.so", "ld-linux", "libgcc_s", "libstdc++.so", "libpthread.so", "ld-musl"};
  if (!facts.loader.empty()) return true;  // A program, not a library.
  // PyPy's library has no name of its own.
  const std::string own =
      facts.soname.empty() ? std::filesystem::path(file).filename().native() : facts.soname;
  for (const std::string_view name : kOwn) {
    if (own.starts_with(name)) return true;
  }
  return std::any_of(facts.needed.begin(), facts.needed.end(), [](const std::string& name) {
    return name.starts_with("libstdc++") || name.starts_with("libc++");
  });
}

// Where the records at `address` end, their closing zero included; 0 for what isn't understood.
std::uint64_t end_of_records(const ElfView& view, std::uint64_t address) {
  constexpr std::uint32_t kLong = 0xffffffff;
  for (;;) {
    const auto length = view.at<std::uint32_t>(view.file_offset(address, 4));
    if (length == kLong) return 0;
    address += 4 + std::uint64_t{length};
    if (length == 0) return address;
  }
}

}  // namespace

std::uint64_t drop_unwind_tables(std::vector<std::byte>& bytes, const std::string& name) {
  const ElfView view(bytes, name);
  if (may_be_unwound(view.facts(), name)) return 0;
  const std::vector<Elf64_Phdr> headers = view.program_headers();
  const auto index = std::find_if(headers.begin(), headers.end(), [](const Elf64_Phdr& header) {
    return header.p_type == PT_GNU_EH_FRAME;
  });
  if (index == headers.end() || index->p_filesz < kWordAt + 4) return 0;
  const std::uint64_t head = view.file_offset(index->p_vaddr, index->p_filesz);
  if (view.at<std::uint8_t>(head) != kVersion || view.at<std::uint8_t>(head + 1) != kRelativeWord) {
    return 0;
  }
  const auto distance = view.at<std::int32_t>(head + kWordAt);
  const std::uint64_t table = index->p_vaddr + kWordAt + static_cast<std::uint64_t>(distance);
  const std::uint64_t end = end_of_records(view, table);
  if (end == 0) return 0;
  const std::uint64_t begin = view.file_offset(table, end - table);

  std::memset(bytes.data() + begin, 0, end - table);
  std::memset(bytes.data() + head, 0, index->p_filesz);
  // Without this header no unwinder looks for the tables.
  Elf64_Phdr none{};
  none.p_type = PT_NULL;
  std::memcpy(bytes.data() + view.header().e_phoff +
                  static_cast<std::uint64_t>(index - headers.begin()) * sizeof none,
              &none, sizeof none);
  return (end - table) + index->p_filesz;
}

}  // namespace pyram::builder
