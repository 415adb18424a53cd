#include "image-builder/elf/relr.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "image-builder/elf/architecture.h"
#include "image-builder/elf/edit.h"
#include "image-builder/elf/file.h"
#include "image-builder/elf/loaded.h"
#include "support/error.h"

namespace pyram::builder {
namespace {

constexpr char kRelrVersion[] = "GLIBC_ABI_DT_RELR";
constexpr std::uint64_t kBitsPerBitmap = 63;

// The hash of version names: the one of the System V ABI's hash table.
std::uint32_t elf_hash(std::string_view name) {
  std::uint32_t hash = 0;
  for (const char c : name) {
    hash = (hash << 4) + static_cast<unsigned char>(c);
    const std::uint32_t high = hash & 0xf0000000U;
    hash ^= high >> 24;
    hash &= ~high;
  }
  return hash;
}

// Whether both files make the same memory, wherever they are loaded.
bool same_program(const std::vector<std::byte>& before, const std::vector<std::byte>& after,
                  const AddressRange& room, const std::string& name) {
  const ElfView old_view(before, name);
  const ElfView new_view(after, name);
  for (const std::uint64_t bias : {std::uint64_t{0}, std::uint64_t{0x7f1234567000}}) {
    LoadedElf expected(old_view, before, bias);
    LoadedElf made(new_view, after, bias);
    // The tables and the dynamic section differ on purpose.
    for (LoadedElf* const loaded : {&expected, &made}) {
      loaded->forget({room.begin + bias, room.end + bias});
      for (const Elf64_Phdr& segment : old_view.program_headers()) {
        if (segment.p_type != PT_DYNAMIC) continue;
        loaded->forget({segment.p_vaddr + bias, segment.p_vaddr + segment.p_filesz + bias});
      }
    }
    if (!expected.same_as(made)) return false;
  }
  return true;
}

// The version needs with one more of libc.so.6; nothing where there are none of it.
std::optional<std::vector<std::byte>> needs_with_relr(const ElfView& elf, std::uint64_t names,
                                                      std::uint32_t new_name) {
  const auto address = elf.dynamic_value(DT_VERNEED);
  const auto count = elf.dynamic_value(DT_VERNEEDNUM);
  // A broken count must not keep us busy; no library needs versions of a thousand others.
  if (!address || !count || *count > 1000) return std::nullopt;
  struct Need {
    Elf64_Verneed head;
    std::vector<Elf64_Vernaux> versions;
  };
  std::vector<Need> needs;
  std::uint16_t highest = 1;
  std::uint64_t at = elf.file_offset(*address);
  for (std::uint64_t i = 0; i < *count; ++i) {
    Need need{elf.at<Elf64_Verneed>(at), {}};
    std::uint64_t version_at = at + need.head.vn_aux;
    for (int j = 0; j < need.head.vn_cnt; ++j) {
      need.versions.push_back(elf.at<Elf64_Vernaux>(version_at));
      highest = std::max<std::uint16_t>(highest, need.versions.back().vna_other & 0x7fff);
      version_at += need.versions.back().vna_next;
    }
    needs.push_back(need);
    at += need.head.vn_next;
  }
  const auto libc = std::find_if(needs.begin(), needs.end(), [&](const Need& need) {
    return elf.text_at(names + need.head.vn_file) == "libc.so.6";
  });
  if (libc == needs.end() || highest == 0x7fff) return std::nullopt;
  Elf64_Vernaux added{};
  added.vna_hash = elf_hash(kRelrVersion);
  added.vna_other = static_cast<Elf64_Half>(highest + 1);
  added.vna_name = new_name;
  libc->versions.push_back(added);

  std::vector<std::byte> result;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    Need& need = needs[i];
    need.head.vn_cnt = static_cast<Elf64_Half>(need.versions.size());
    need.head.vn_aux = sizeof(Elf64_Verneed);
    need.head.vn_next = i + 1 == needs.size()
                            ? 0
                            : static_cast<Elf64_Word>(sizeof(Elf64_Verneed) +
                                                      need.versions.size() * sizeof(Elf64_Vernaux));
    append(result, need.head);
    for (std::size_t j = 0; j < need.versions.size(); ++j) {
      need.versions[j].vna_next = j + 1 == need.versions.size() ? 0 : sizeof(Elf64_Vernaux);
      append(result, need.versions[j]);
    }
  }
  return result;
}

// A table of the file that has been copied elsewhere.
struct Moved {
  std::uint64_t address;  // Where it was.
  std::uint64_t to;
  std::uint64_t to_offset;
  std::uint64_t size;
};

// Debuggers and profilers go by the section headers, so these follow.
void move_sections(std::vector<std::byte>& bytes, const ElfView& elf,
                   const std::vector<Moved>& moved) {
  const Elf64_Ehdr& header = elf.header();
  if (header.e_shentsize != sizeof(Elf64_Shdr)) return;
  for (std::uint64_t i = 0; i < header.e_shnum; ++i) {
    const std::uint64_t at = header.e_shoff + i * sizeof(Elf64_Shdr);
    auto section = elf.at<Elf64_Shdr>(at);
    const auto move = std::find_if(moved.begin(), moved.end(), [&](const Moved& m) {
      return (section.sh_flags & SHF_ALLOC) != 0 && m.address == section.sh_addr;
    });
    if (section.sh_type == SHT_NULL || move == moved.end()) continue;
    section.sh_addr = move->to;
    section.sh_offset = move->to_offset;
    section.sh_size = move->size;
    put(bytes, at, section);
  }
}

}  // namespace

std::vector<std::uint64_t> encode_relr(const std::vector<std::uint64_t>& addresses) {
  std::vector<std::uint64_t> words;
  std::size_t i = 0;
  while (i < addresses.size()) {
    words.push_back(addresses[i]);
    std::uint64_t next = addresses[i] + kWord;
    ++i;
    for (;;) {
      std::uint64_t bitmap = 0;
      while (i < addresses.size()) {
        const std::uint64_t distance = addresses[i] - next;
        if (distance >= kBitsPerBitmap * kWord || distance % kWord != 0) break;
        bitmap |= std::uint64_t{1} << (distance / kWord);
        ++i;
      }
      if (bitmap == 0) break;
      words.push_back(bitmap << 1 | 1);
      next += kBitsPerBitmap * kWord;
    }
  }
  return words;
}

std::vector<std::uint64_t> decode_relr(const std::vector<std::uint64_t>& words) {
  std::vector<std::uint64_t> addresses;
  std::uint64_t next = 0;
  for (const std::uint64_t word : words) {
    if ((word & 1) == 0) {
      addresses.push_back(word);
      next = word + kWord;
      continue;
    }
    for (std::uint64_t bit = 0; bit < kBitsPerBitmap; ++bit) {
      if ((word >> (bit + 1) & 1) != 0) addresses.push_back(next + bit * kWord);
    }
    next += kBitsPerBitmap * kWord;
  }
  return addresses;
}

namespace {

// The relocations of a file, parted: those that go into the packed table, and the others.
struct Parted {
  std::vector<std::uint64_t> addresses;  // To be packed, in order.
  std::vector<Elf64_Rela> kept;  // Relative ones first, as the loader's fast loop wants them.
  std::uint64_t kept_relative = 0;
};

// Writes the addends of what can be packed into `result`, where a packed relocation has them.
Parted part_relocations(const ElfView& elf, std::uint32_t relative,
                        std::vector<std::byte>& result) {
  Parted parted;
  std::vector<Elf64_Phdr> writable = elf.program_headers();
  std::erase_if(writable, [](const Elf64_Phdr& segment) {
    return segment.p_type != PT_LOAD || (segment.p_flags & PF_W) == 0;
  });
  for (const Elf64_Rela& relocation : read_relocations(elf)) {
    const auto segment =
        std::find_if(writable.begin(), writable.end(), [&](const Elf64_Phdr& candidate) {
          return relocation.r_offset >= candidate.p_vaddr && candidate.p_filesz >= kWord &&
                 relocation.r_offset - candidate.p_vaddr <= candidate.p_filesz - kWord;
        });
    // Words that the file doesn't hold (.bss) have no place for their addend, and odd addresses
    // mean bitmaps.
    if (ELF64_R_TYPE(relocation.r_info) != relative || relocation.r_offset % kWord != 0 ||
        segment == writable.end()) {
      parted.kept.push_back(relocation);
      continue;
    }
    parted.addresses.push_back(relocation.r_offset);
    put(result, segment->p_offset + (relocation.r_offset - segment->p_vaddr), relocation.r_addend);
  }
  std::sort(parted.addresses.begin(), parted.addresses.end());
  const auto others = std::stable_partition(
      parted.kept.begin(), parted.kept.end(),
      [&](const Elf64_Rela& relocation) { return ELF64_R_TYPE(relocation.r_info) == relative; });
  parted.kept_relative = static_cast<std::uint64_t>(others - parted.kept.begin());
  return parted;
}

// What the place of the old relocation table holds afterwards, one table behind the other.
struct Tables {
  std::vector<std::byte> bytes;
  std::uint64_t relocations_size = 0;  // From the beginning.
  std::uint64_t packed = 0;            // Positions in `bytes`, and sizes.
  std::uint64_t packed_size = 0;
  std::uint64_t names = 0;
  std::uint64_t names_size = 0;
  std::uint64_t needs = 0;
  std::uint64_t needs_size = 0;
};

// Nothing where the file needs no versions of the C library.
std::optional<Tables> make_tables(const ElfView& elf, std::span<const std::byte> bytes,
                                  const Parted& parted) {
  Tables tables;
  for (const Elf64_Rela& relocation : parted.kept) append(tables.bytes, relocation);
  tables.relocations_size = tables.bytes.size();

  tables.packed = tables.bytes.size();
  for (const std::uint64_t word : encode_relr(parted.addresses)) append(tables.bytes, word);
  tables.packed_size = tables.bytes.size() - tables.packed;

  const std::uint64_t old_size = *elf.dynamic_value(DT_STRSZ);
  const std::uint64_t old_offset = elf.file_offset(*elf.dynamic_value(DT_STRTAB), old_size);
  tables.names = tables.bytes.size();
  const auto names = bytes.subspan(old_offset, old_size);
  tables.bytes.insert(tables.bytes.end(), names.begin(), names.end());
  const auto version = std::as_bytes(std::span(kRelrVersion));
  tables.bytes.insert(tables.bytes.end(), version.begin(), version.end());
  tables.names_size = tables.bytes.size() - tables.names;
  pad(tables.bytes, kWord);

  const auto needs = needs_with_relr(elf, old_offset, static_cast<std::uint32_t>(old_size));
  if (!needs) return std::nullopt;
  tables.needs = tables.bytes.size();
  tables.needs_size = needs->size();
  tables.bytes.insert(tables.bytes.end(), needs->begin(), needs->end());
  return tables;
}

// The dynamic section that names `tables`, which are at `address`.
std::vector<Elf64_Dyn> dynamic_with(const ElfView& elf, const Tables& tables, std::uint64_t address,
                                    std::uint64_t kept_relative) {
  std::vector<Elf64_Dyn> entries;
  for (Elf64_Dyn old : elf.dynamic()) {
    if (old.d_tag == DT_RELACOUNT) {
      if (kept_relative == 0) continue;
      old.d_un.d_val = kept_relative;
    }
    if (old.d_tag == DT_RELASZ) old.d_un.d_val = tables.relocations_size;
    if (old.d_tag == DT_STRTAB) old.d_un.d_val = address + tables.names;
    if (old.d_tag == DT_STRSZ) old.d_un.d_val = tables.names_size;
    if (old.d_tag == DT_VERNEED) old.d_un.d_val = address + tables.needs;
    entries.push_back(old);
  }
  const auto add = [&](std::int64_t tag, std::uint64_t value) {
    Elf64_Dyn entry{};
    entry.d_tag = tag;
    entry.d_un.d_val = value;
    entries.push_back(entry);
  };
  add(kDtRelr, address + tables.packed);
  add(kDtRelrSize, tables.packed_size);
  add(kDtRelrEntry, kWord);
  add(DT_NULL, 0);
  return entries;
}

// Writes the dynamic section in its place, where linkers leave a few spare entries. False where it
// does not fit.
bool put_dynamic(std::vector<std::byte>& result, const ElfView& elf,
                 const std::vector<Elf64_Dyn>& entries) {
  for (const Elf64_Phdr& segment : elf.program_headers()) {
    if (segment.p_type != PT_DYNAMIC) continue;
    if (entries.size() * sizeof(Elf64_Dyn) > segment.p_filesz) return false;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      put(result, segment.p_offset + i * sizeof(Elf64_Dyn), entries[i]);
    }
  }
  return true;
}

}  // namespace

RelrResult pack_relative_relocations(std::vector<std::byte>& bytes, const std::string& name) {
  const ElfView elf(bytes, name);
  const Architecture* const architecture = find_architecture(elf.header().e_machine);
  if (architecture == nullptr) return {};
  if (elf.dynamic_value(kDtRelr) || !elf.dynamic_value(DT_STRSZ)) return {};

  std::vector<std::byte> result = bytes;
  const Parted parted = part_relocations(elf, architecture->relative, result);
  const std::vector<std::uint64_t>& addresses = parted.addresses;
  if (addresses.size() < kFewestRelocations) return {};
  if (std::adjacent_find(addresses.begin(), addresses.end()) != addresses.end()) return {};

  const std::uint64_t room_address = *elf.dynamic_value(DT_RELA);
  const std::uint64_t room_size = *elf.dynamic_value(DT_RELASZ);
  const std::uint64_t room_offset = elf.file_offset(room_address, room_size);
  auto tables = make_tables(elf, bytes, parted);
  if (!tables || tables->bytes.size() > room_size) return {};
  const std::uint64_t used = tables->bytes.size();
  tables->bytes.resize(room_size);
  std::copy(tables->bytes.begin(), tables->bytes.end(),
            result.begin() + static_cast<std::ptrdiff_t>(room_offset));
  if (!put_dynamic(result, elf, dynamic_with(elf, *tables, room_address, parted.kept_relative))) {
    return {};
  }

  const auto moved = [&](std::int64_t tag, std::uint64_t at, std::uint64_t size) {
    return Moved{*elf.dynamic_value(tag), room_address + at, room_offset + at, size};
  };
  move_sections(result, elf,
                {moved(DT_RELA, 0, tables->relocations_size),
                 moved(DT_STRTAB, tables->names, tables->names_size),
                 moved(DT_VERNEED, tables->needs, tables->needs_size)});
  if (!same_program(bytes, result, {room_address, room_address + room_size}, name)) {
    throw Error(ExitCode::kFailed, "internal error: packing the relocations of " + quote(name) +
                                       " would change the library; build with --no-elf-packing");
  }
  bytes = std::move(result);
  return {addresses.size(), room_size - used};
}

}  // namespace pyram::builder
