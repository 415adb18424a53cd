#include "image-builder/elf/fixed_address.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "image-builder/elf/architecture.h"
#include "image-builder/elf/edit.h"
#include "image-builder/elf/loaded.h"
#include "image-builder/elf/relr.h"
#include "image-builder/elf/self_relocation.h"
#include "image-builder/embedded.h"
#include "support/error.h"

namespace pyram::builder {
namespace {

// Why a file is left alone. Only thrown and caught in here.
struct Unsuitable {
  std::string why;
};

bool is_pointer(std::int64_t tag) {
  switch (tag) {
    case DT_PLTGOT:
    case DT_HASH:
    case DT_STRTAB:
    case DT_SYMTAB:
    case DT_RELA:
    case DT_INIT:
    case DT_FINI:
    case DT_JMPREL:
    case DT_INIT_ARRAY:
    case DT_FINI_ARRAY:
    case DT_GNU_HASH:
    case DT_VERSYM:
    case DT_VERDEF:
    case DT_VERNEED:
    case kDtRelr:
      return true;
    default:
      return false;
  }
}

template <typename Types, typename Type>
bool contains(const Types& types, Type type) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

bool is_plain_value(std::int64_t tag, const Architecture& architecture) {
  switch (tag) {
    case DT_NEEDED:
    case DT_PLTRELSZ:
    case DT_RELASZ:
    case DT_RELAENT:
    case DT_STRSZ:
    case DT_SYMENT:
    case DT_SONAME:
    case DT_RPATH:
    case DT_SYMBOLIC:
    case DT_PLTREL:
    case DT_BIND_NOW:
    case DT_INIT_ARRAYSZ:
    case DT_FINI_ARRAYSZ:
    case DT_RUNPATH:
    case DT_FLAGS:
    case DT_FLAGS_1:
    case DT_VERDEFNUM:
    case DT_VERNEEDNUM:
    case DT_RELACOUNT:
    case kDtRelrSize:
    case kDtRelrEntry:
      return true;
    default:
      return contains(architecture.values, tag);
  }
}

// A table of the file: where it is in memory and in the file.
struct Room {
  std::uint64_t address = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// Throws Unsuitable.
const Architecture& known_architecture(const ElfView& elf) {
  const Architecture* const found = find_architecture(elf.header().e_machine);
  if (found == nullptr) throw Unsuitable{"an unknown processor"};
  return *found;
}

// One file on its way to its address. All addresses in here are the original's.
class Fixer {
 public:
  Fixer(const std::vector<std::byte>& bytes, std::uint64_t address, const std::string& name)
      : elf_(bytes, name),
        before_(bytes),
        headers_(elf_.program_headers()),
        architecture_(known_architecture(elf_)),
        base_(address),
        result_(bytes) {}

  // The number of relocations that were applied. Throws Unsuitable.
  std::uint64_t fix() {
    check_kind();
    read_symbols();
    sort_relocations();
    if (words_.size() < kFewestRelocations) throw Unsuitable{};
    place_code_and_table();
    apply_relocations();
    write_relocations();
    write_code_and_table();
    shift_symbols();
    write_dynamic();
    shift_headers();
    prove();
    return words_.size();
  }

  [[nodiscard]] std::vector<std::byte> take_result() { return std::move(result_); }

 private:
  void check_kind() const;
  void read_symbols();
  void sort_relocations();
  void place_code_and_table();
  void apply_relocations();
  void write_relocations();
  void write_code_and_table();
  void shift_symbols();
  void write_dynamic();
  void shift_headers();
  // That a program sees the same: the memory, but for the tables that change, and these tables.
  // Throws Error (kFailed).
  void prove() const;
  void prove_memory(const ElfView& after) const;
  void prove_tables(const ElfView& after) const;
  // What differs in memory by intent. Addresses of the old file.
  [[nodiscard]] std::vector<AddressRange> changed_tables() const;
  [[nodiscard]] Error would_differ(const char* what) const;

  [[nodiscard]] std::optional<Room> room_of(std::int64_t table, std::int64_t size) const;
  [[nodiscard]] bool is_in_file(std::uint64_t address) const;
  [[nodiscard]] bool is_read_early(std::uint64_t address) const;
  [[nodiscard]] std::optional<Room> room_behind(const Elf64_Phdr& segment) const;
  [[nodiscard]] std::uint64_t count_symbols() const;
  [[nodiscard]] bool moves(const Elf64_Sym& symbol) const;
  void check_relocation(const Elf64_Rela& relocation) const;

  ElfView elf_;
  const std::vector<std::byte>& before_;
  std::vector<Elf64_Phdr> headers_;
  const Architecture& architecture_;
  std::uint64_t base_;
  std::vector<std::byte> result_;

  std::vector<Elf64_Sym> symbols_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> objects_;  // Exported: address, end; sorted.
  std::vector<std::uint64_t> words_;  // Those that are relocated in the file, sorted.
  std::vector<Elf64_Rela> kept_;      // What is left to the loader.
  std::uint64_t kept_relative_ = 0;   // How many of them are relative; they come first.
  std::vector<std::uint64_t> table_;  // words_ at their new addresses, as DT_RELR has them.
  Room table_room_;
  Room code_room_;
  std::size_t code_segment_ = 0;  // Index of its program header.
};

std::optional<Room> Fixer::room_of(std::int64_t table, std::int64_t size) const {
  const auto address = elf_.dynamic_value(table);
  const auto bytes = elf_.dynamic_value(size);
  if (!address || !bytes || *bytes == 0) return std::nullopt;
  return Room{*address, elf_.file_offset(*address, *bytes), *bytes};
}

void Fixer::check_kind() const {
  if (elf_.header().e_type != ET_DYN) throw Unsuitable{};
  const Elf64_Phdr* last = nullptr;
  for (const Elf64_Phdr& header : headers_) {
    if (header.p_type == PT_INTERP) throw Unsuitable{};  // A program, or the C library.
    if (header.p_type != PT_LOAD) continue;
    if (last == nullptr && architecture_.page_down(header.p_vaddr) != 0) {
      throw Unsuitable{"it has an address of its own already"};
    }
    constexpr std::uint64_t kLargest = std::uint64_t{1} << 32;
    if (header.p_vaddr > kLargest || header.p_memsz > kLargest ||
        header.p_filesz > header.p_memsz || header.p_align > kAddressUnit) {
      throw Unsuitable{"its segments are too large"};
    }
    if (last != nullptr && header.p_vaddr < last->p_vaddr + last->p_memsz) {
      throw Unsuitable{"its segments are out of order"};
    }
    last = &header;
  }
  std::set<std::int64_t> seen;
  for (const Elf64_Dyn& entry : elf_.dynamic()) {
    const std::int64_t tag = entry.d_tag;
    if (tag == DT_TEXTREL || (tag == DT_FLAGS && (entry.d_un.d_val & DF_TEXTREL) != 0)) {
      throw Unsuitable{"its code is relocated"};
    }
    if (!is_pointer(tag) && !is_plain_value(tag, architecture_)) {
      throw Unsuitable{"its dynamic section has the unknown tag " + std::to_string(tag)};
    }
    if (tag == DT_PLTREL && entry.d_un.d_val != DT_RELA) throw Unsuitable{"it has no RELA tables"};
    if (is_pointer(tag) && !seen.insert(tag).second) throw Unsuitable{"it says things twice"};
  }
  const auto relocations = room_of(DT_RELA, DT_RELASZ);
  const auto slots = room_of(DT_JMPREL, DT_PLTRELSZ);
  if (relocations && slots && slots->address < relocations->address + relocations->size &&
      relocations->address < slots->address + slots->size) {
    throw Unsuitable{"its tables of relocations overlap"};
  }
}

// A file doesn't say how many symbols it has. Those that can be found by name are the last ones.
std::uint64_t Fixer::count_symbols() const {
  std::uint64_t count = 0;
  if (const auto address = elf_.dynamic_value(DT_HASH)) {
    count = elf_.at<std::uint32_t>(elf_.file_offset(*address, 8) + 4);
  }
  if (const auto address = elf_.dynamic_value(DT_GNU_HASH)) {
    // Head, Bloom filter, buckets, chains (https://sourceware.org/gnu-gabi/program-loading-and-
    // dynamic-linking.txt).
    const std::uint64_t head = elf_.file_offset(*address, 16);
    const auto buckets = elf_.at<std::uint32_t>(head);
    const auto first = elf_.at<std::uint32_t>(head + 4);
    const auto filter = elf_.at<std::uint32_t>(head + 8);
    const std::uint64_t bucket_at = head + 16 + std::uint64_t{filter} * kWord;
    const std::uint64_t chain_at = bucket_at + std::uint64_t{buckets} * 4;
    std::uint64_t last = 0;
    for (std::uint64_t i = 0; i < buckets; ++i) {
      last = std::max<std::uint64_t>(last, elf_.at<std::uint32_t>(bucket_at + i * 4));
    }
    count = std::max<std::uint64_t>(count, first);
    if (last >= first) {
      while ((elf_.at<std::uint32_t>(chain_at + (last - first) * 4) & 1) == 0) ++last;
      count = std::max(count, last + 1);
    }
  }
  for (const auto& [table, size] :
       {std::pair{DT_RELA, DT_RELASZ}, std::pair{DT_JMPREL, DT_PLTRELSZ}}) {
    for (const Elf64_Rela& relocation : read_relocations(elf_, table, size)) {
      count = std::max<std::uint64_t>(count, ELF64_R_SYM(relocation.r_info) + 1);
    }
  }
  return count;
}

void Fixer::read_symbols() {
  const auto table = elf_.dynamic_value(DT_SYMTAB);
  if (!table) throw Unsuitable{"it has no symbols"};
  const std::uint64_t count = count_symbols();
  const std::uint64_t offset = elf_.file_offset(*table, count * sizeof(Elf64_Sym));
  symbols_.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto symbol = elf_.at<Elf64_Sym>(offset + i * sizeof(Elf64_Sym));
    if (ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC) {
      throw Unsuitable{"it chooses functions while it is relocated (IFUNC)"};
    }
    if (symbol.st_shndx == SHN_UNDEF && symbol.st_value != 0) throw Unsuitable{"it is a program"};
    symbols_.push_back(symbol);
    if (ELF64_ST_TYPE(symbol.st_info) == STT_OBJECT && moves(symbol)) {
      objects_.emplace_back(symbol.st_value, symbol.st_value + symbol.st_size);
    }
  }
  std::sort(objects_.begin(), objects_.end());
}

bool Fixer::moves(const Elf64_Sym& symbol) const {
  return symbol.st_shndx != SHN_UNDEF && symbol.st_shndx != SHN_ABS &&
         ELF64_ST_TYPE(symbol.st_info) != STT_TLS;
}

bool Fixer::is_in_file(std::uint64_t address) const {
  return std::any_of(headers_.begin(), headers_.end(), [&](const Elf64_Phdr& segment) {
    return segment.p_type == PT_LOAD && (segment.p_flags & PF_W) != 0 &&
           address >= segment.p_vaddr && segment.p_filesz >= kWord &&
           address - segment.p_vaddr <= segment.p_filesz - kWord;
  });
}

// Words that the loader copies before any code of the library could have relocated them: the
// initial values of thread-local variables, and variables that a program has a copy of
// (R_*_COPY).
bool Fixer::is_read_early(std::uint64_t address) const {
  const bool is_thread_local =
      std::any_of(headers_.begin(), headers_.end(), [&](const Elf64_Phdr& segment) {
        return segment.p_type == PT_TLS && address + kWord > segment.p_vaddr &&
               address < segment.p_vaddr + segment.p_filesz;
      });
  if (is_thread_local) return true;
  // Objects of libraries rarely lie inside each other; of those that begin before the word, the
  // last ones are looked at.
  auto next =
      std::upper_bound(objects_.begin(), objects_.end(), std::pair{address, ~std::uint64_t{0}});
  for (int i = 0; i < 8 && next != objects_.begin(); ++i) {
    --next;
    if (address < next->second) return true;
  }
  return false;
}

void Fixer::check_relocation(const Elf64_Rela& relocation) const {
  const std::uint64_t type = ELF64_R_TYPE(relocation.r_info);
  const bool has_symbol = ELF64_R_SYM(relocation.r_info) != 0;
  if (type == architecture_.relative || contains(architecture_.for_threads, type)) return;
  // These hold no address of the file itself, but for that of a symbol: the loader reads the
  // symbol, so nothing in them changes but their place.
  if (contains(architecture_.by_symbol, type) && has_symbol) return;
  throw Unsuitable{"it has relocations of the kind " + std::to_string(type)};
}

void Fixer::sort_relocations() {
  words_ = read_packed_relocations(elf_);
  std::vector<std::uint64_t> early;
  for (const std::uint64_t address : words_) {
    if (!is_in_file(address) || is_read_early(address)) early.push_back(address);
  }
  if (!early.empty()) throw Unsuitable{"the loader reads what it has just relocated"};
  const std::uint32_t relative = architecture_.relative;
  for (const Elf64_Rela& relocation : read_relocations(elf_)) {
    check_relocation(relocation);
    const bool is_relative = ELF64_R_TYPE(relocation.r_info) == relative;
    if (is_relative && relocation.r_offset % kWord == 0 && is_in_file(relocation.r_offset) &&
        !is_read_early(relocation.r_offset)) {
      words_.push_back(relocation.r_offset);
      continue;
    }
    kept_.push_back(relocation);
    if (is_relative) ++kept_relative_;
  }
  for (const Elf64_Rela& slot : read_relocations(elf_, DT_JMPREL, DT_PLTRELSZ)) {
    check_relocation(slot);
    if (ELF64_R_TYPE(slot.r_info) == relative) throw Unsuitable{"its call slots are unusual"};
  }
  // Relative ones first, as the loader's fast loop wants them.
  std::stable_partition(kept_.begin(), kept_.end(), [&](const Elf64_Rela& relocation) {
    return ELF64_R_TYPE(relocation.r_info) == relative;
  });
  std::sort(words_.begin(), words_.end());
  if (std::adjacent_find(words_.begin(), words_.end()) != words_.end()) {
    throw Unsuitable{"it relocates words twice"};
  }
  std::vector<std::uint64_t> shifted = words_;
  for (std::uint64_t& address : shifted) address += base_;
  table_ = encode_relr(shifted);
}

// What lies between a segment's end and the end of its last page, if that is nothing.
std::optional<Room> Fixer::room_behind(const Elf64_Phdr& segment) const {
  if (segment.p_filesz != segment.p_memsz) return std::nullopt;
  const std::uint64_t file_end = segment.p_offset + segment.p_filesz;
  const std::uint64_t address_end = segment.p_vaddr + segment.p_memsz;
  const std::uint64_t skip = (kWord - address_end % kWord) % kWord;
  const std::uint64_t size = (kSmallestPage - address_end % kSmallestPage) % kSmallestPage;
  if (size <= skip || file_end + size > before_.size()) return std::nullopt;
  for (const Elf64_Phdr& other : headers_) {
    const bool in_file = other.p_filesz != 0 && other.p_offset < file_end + size &&
                         other.p_offset + other.p_filesz > file_end;
    const bool in_memory = other.p_memsz != 0 && other.p_type == PT_LOAD &&
                           other.p_vaddr < address_end + size &&
                           other.p_vaddr + other.p_memsz > address_end;
    if (in_file || in_memory) return std::nullopt;
  }
  const auto unused = std::span(before_).subspan(file_end, size);
  if (std::any_of(unused.begin(), unused.end(), [](std::byte b) { return b != std::byte{0}; })) {
    return std::nullopt;
  }
  return Room{address_end + skip, file_end + skip, size - skip};
}

void Fixer::place_code_and_table() {
  if (self_relocation(architecture_.elf).empty()) {
    throw Unsuitable{"this pyram-image has no machine code for " +
                     std::string(architecture_.machine)};
  }
  const std::uint64_t code_size =
      self_relocation(architecture_.elf).size() + sizeof(SelfRelocation);
  const std::uint64_t table_size = table_.size() * kWord;
  // The relocations that go leave room, in the middle of nowhere: in no executable segment.
  const std::uint64_t kept_size = kept_.size() * sizeof(Elf64_Rela);
  std::optional<Room> freed;
  if (const auto rela = room_of(DT_RELA, DT_RELASZ); rela && rela->size >= kept_size) {
    freed = Room{rela->address + kept_size, rela->offset + kept_size, rela->size - kept_size};
  }
  if (!freed || freed->size < table_size) freed = room_of(kDtRelr, kDtRelrSize);
  if (!freed || freed->size < table_size || freed->address % kWord != 0) {
    throw Unsuitable{"it has no room for a table"};
  }
  table_room_ = {freed->address, freed->offset, table_size};
  for (std::size_t i = 0; i < headers_.size(); ++i) {
    if (headers_[i].p_type != PT_LOAD || (headers_[i].p_flags & PF_X) == 0) continue;
    const auto room = room_behind(headers_[i]);
    if (!room || room->size < code_size) continue;
    code_room_ = {room->address, room->offset, code_size};
    code_segment_ = i;
    return;
  }
  // No executable segment has room: the one with the table becomes executable, as it was in files
  // of older linkers.
  if (freed->size - table_size < code_size) throw Unsuitable{"it has no room for code"};
  code_room_ = {freed->address + table_size, freed->offset + table_size, code_size};
  for (std::size_t i = 0; i < headers_.size(); ++i) {
    const bool holds = headers_[i].p_type == PT_LOAD && code_room_.address >= headers_[i].p_vaddr &&
                       code_room_.address - headers_[i].p_vaddr < headers_[i].p_filesz;
    if (holds && (headers_[i].p_flags & PF_W) == 0) {
      code_segment_ = i;
      return;
    }
  }
  throw Unsuitable{"it has no room for code"};
}

void Fixer::apply_relocations() {
  // Words that DT_RELR names hold their addend; of others the table does.
  const auto add_base = [&](std::uint64_t address) {
    const std::uint64_t offset = elf_.file_offset(address, kWord);
    put(result_, offset, elf_.at<std::uint64_t>(offset) + base_);
  };
  for (const std::uint64_t address : read_packed_relocations(elf_)) add_base(address);
  const std::uint32_t relative = architecture_.relative;
  for (const Elf64_Rela& relocation : read_relocations(elf_)) {
    if (ELF64_R_TYPE(relocation.r_info) != relative ||
        !std::binary_search(words_.begin(), words_.end(), relocation.r_offset)) {
      continue;
    }
    put(result_, elf_.file_offset(relocation.r_offset, kWord),
        base_ + static_cast<std::uint64_t>(relocation.r_addend));
  }
  const std::uint32_t slot = architecture_.slot;
  for (const Elf64_Rela& relocation : read_relocations(elf_, DT_JMPREL, DT_PLTRELSZ)) {
    if (ELF64_R_TYPE(relocation.r_info) == slot) add_base(relocation.r_offset);
  }
}

void Fixer::write_relocations() {
  const auto shifted = [&](Elf64_Rela relocation) {
    relocation.r_offset += base_;
    if (ELF64_R_TYPE(relocation.r_info) == architecture_.relative) {
      relocation.r_addend += static_cast<std::int64_t>(base_);
    }
    return relocation;
  };
  if (const auto room = room_of(DT_RELA, DT_RELASZ)) {
    std::fill_n(result_.begin() + static_cast<std::ptrdiff_t>(room->offset), room->size,
                std::byte{0});
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      put(result_, room->offset + i * sizeof(Elf64_Rela), shifted(kept_[i]));
    }
  }
  if (const auto room = room_of(kDtRelr, kDtRelrSize)) {
    std::fill_n(result_.begin() + static_cast<std::ptrdiff_t>(room->offset), room->size,
                std::byte{0});
  }
  const auto room = room_of(DT_JMPREL, DT_PLTRELSZ);
  const std::vector<Elf64_Rela> slots = read_relocations(elf_, DT_JMPREL, DT_PLTRELSZ);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    put(result_, room->offset + i * sizeof(Elf64_Rela), shifted(slots[i]));
  }
}

void Fixer::write_code_and_table() {
  for (std::size_t i = 0; i < table_.size(); ++i) {
    put(result_, table_room_.offset + i * kWord, table_[i]);
  }
  const auto code = self_relocation(architecture_.elf);
  std::copy(code.begin(), code.end(),
            result_.begin() + static_cast<std::ptrdiff_t>(code_room_.offset));
  const std::uint64_t here = code_room_.address + code.size();
  const auto distance = [&](std::uint64_t address) { return static_cast<long>(address - here); };
  SelfRelocation parameters{};
  parameters.address = here + base_;
  parameters.table = distance(table_room_.address);
  parameters.table_words = table_.size();
  for (const Elf64_Phdr& header : headers_) {
    if (header.p_type != PT_GNU_RELRO) continue;
    parameters.protected_begin = distance(header.p_vaddr);
    parameters.protected_size = header.p_memsz;
  }
  if (const auto initialiser = elf_.dynamic_value(DT_INIT)) {
    parameters.initialiser = distance(*initialiser);
  }
  put(result_, code_room_.offset + code.size(), parameters);
}

void Fixer::shift_symbols() {
  const std::uint64_t offset =
      elf_.file_offset(*elf_.dynamic_value(DT_SYMTAB), symbols_.size() * sizeof(Elf64_Sym));
  for (std::size_t i = 0; i < symbols_.size(); ++i) {
    Elf64_Sym symbol = symbols_[i];
    if (!moves(symbol)) continue;
    symbol.st_value += base_;
    put(result_, offset + i * sizeof(Elf64_Sym), symbol);
  }
}

void Fixer::write_dynamic() {
  std::vector<Elf64_Dyn> entries;
  bool has_initialiser = false;
  for (Elf64_Dyn entry : elf_.dynamic()) {
    const std::int64_t tag = entry.d_tag;
    if (tag == kDtRelr || tag == kDtRelrSize || tag == kDtRelrEntry) continue;
    if (tag == DT_RELACOUNT && kept_relative_ == 0) continue;
    if (tag == DT_RELACOUNT) entry.d_un.d_val = kept_relative_;
    if (tag == DT_RELASZ) entry.d_un.d_val = kept_.size() * sizeof(Elf64_Rela);
    if (tag == DT_INIT) {
      has_initialiser = true;
      entry.d_un.d_ptr = code_room_.address;
    }
    if (is_pointer(tag)) entry.d_un.d_ptr += base_;
    entries.push_back(entry);
  }
  if (!has_initialiser) {
    Elf64_Dyn entry{};
    entry.d_tag = DT_INIT;
    entry.d_un.d_ptr = code_room_.address + base_;
    entries.push_back(entry);
  }
  entries.push_back({});
  for (const Elf64_Phdr& segment : headers_) {
    if (segment.p_type != PT_DYNAMIC) continue;
    if (entries.size() * sizeof(Elf64_Dyn) > segment.p_filesz) {
      throw Unsuitable{"its dynamic section has no spare room"};
    }
    std::fill_n(result_.begin() + static_cast<std::ptrdiff_t>(segment.p_offset), segment.p_filesz,
                std::byte{0});
    for (std::size_t i = 0; i < entries.size(); ++i) {
      put(result_, segment.p_offset + i * sizeof(Elf64_Dyn), entries[i]);
    }
  }
}

void Fixer::shift_headers() {
  for (std::size_t i = 0; i < headers_.size(); ++i) {
    Elf64_Phdr header = headers_[i];
    if (header.p_type == PT_NULL || header.p_type == PT_GNU_STACK) continue;
    header.p_vaddr += base_;
    header.p_paddr = header.p_vaddr;
    if (i == code_segment_) {
      header.p_flags |= PF_X;
      const std::uint64_t end = code_room_.offset + code_room_.size - header.p_offset;
      header.p_filesz = std::max(header.p_filesz, end);
      header.p_memsz = std::max(header.p_memsz, end);
    }
    put(result_, elf_.header().e_phoff + i * sizeof header, header);
  }
  Elf64_Ehdr header = elf_.header();
  if (header.e_entry != 0) header.e_entry += base_;
  // Section headers are for debuggers, and describe another file now.
  header.e_shoff = 0;
  header.e_shnum = 0;
  header.e_shstrndx = 0;
  put(result_, 0, header);
}

// Loads the original as the loader would, and the result as the loader would and, where it lies
// elsewhere, its own code: everything has to be the same.
Error Fixer::would_differ(const char* what) const {
  return {ExitCode::kFailed, "internal error: " + std::string(what) + " of " + quote(elf_.name()) +
                                 " would differ at a fixed address; build with --relocatable"};
}

void Fixer::prove() const {
  const ElfView after(result_, elf_.name());
  prove_memory(after);
  prove_tables(after);
}

std::vector<AddressRange> Fixer::changed_tables() const {
  std::vector<AddressRange> changed{
      {code_room_.address, code_room_.address + code_room_.size},
      {0, elf_.header().e_phoff + headers_.size() * sizeof(Elf64_Phdr)}};
  for (const auto& room : {room_of(DT_RELA, DT_RELASZ), room_of(kDtRelr, kDtRelrSize),
                           room_of(DT_JMPREL, DT_PLTRELSZ)}) {
    if (room) changed.push_back({room->address, room->address + room->size});
  }
  const std::uint64_t symbols = *elf_.dynamic_value(DT_SYMTAB);
  changed.push_back({symbols, symbols + symbols_.size() * sizeof(Elf64_Sym)});
  for (const Elf64_Phdr& segment : headers_) {
    if (segment.p_type != PT_DYNAMIC) continue;
    changed.push_back({segment.p_vaddr, segment.p_vaddr + segment.p_filesz});
  }
  return changed;
}

void Fixer::prove_memory(const ElfView& after) const {
  const std::vector<AddressRange> changed = changed_tables();
  for (const std::uint64_t bias : {std::uint64_t{0}, std::uint64_t{0x7f1234567000}}) {
    LoadedElf expected(elf_, before_, base_ + bias);
    LoadedElf made(after, result_, bias);
    if (bias != 0) {
      std::vector<std::uint64_t> table;
      for (std::size_t i = 0; i < table_.size(); ++i) {
        table.push_back(after.at<std::uint64_t>(table_room_.offset + i * kWord));
      }
      for (const std::uint64_t address : decode_relr(table)) {
        if (!made.add(address + bias, bias)) throw would_differ("a relocation");
      }
    }
    for (const AddressRange& range : changed) {
      const AddressRange there{range.begin + base_ + bias, range.end + base_ + bias};
      expected.forget(there);
      made.forget(there);
    }
    if (!expected.same_as(made)) throw would_differ("the memory");
  }
}

void Fixer::prove_tables(const ElfView& after) const {
  const std::uint64_t offset = after.file_offset(*elf_.dynamic_value(DT_SYMTAB) + base_);
  for (std::size_t i = 0; i < symbols_.size(); ++i) {
    const auto symbol = after.at<Elf64_Sym>(offset + i * sizeof(Elf64_Sym));
    const std::uint64_t distance = moves(symbols_[i]) ? base_ : 0;
    if (symbol.st_value != symbols_[i].st_value + distance ||
        symbol.st_name != symbols_[i].st_name || symbol.st_shndx != symbols_[i].st_shndx ||
        symbol.st_info != symbols_[i].st_info || symbol.st_size != symbols_[i].st_size) {
      throw would_differ("a symbol");
    }
  }
  const auto same_kinds = [&](const std::vector<Elf64_Rela>& old,
                              const std::vector<Elf64_Rela>& fresh) {
    return std::equal(old.begin(), old.end(), fresh.begin(), fresh.end(),
                      [&](const Elf64_Rela& a, const Elf64_Rela& b) {
                        return a.r_offset + base_ == b.r_offset && a.r_info == b.r_info;
                      });
  };
  if (!same_kinds(kept_, read_relocations(after)) ||
      !same_kinds(read_relocations(elf_, DT_JMPREL, DT_PLTRELSZ),
                  read_relocations(after, DT_JMPREL, DT_PLTRELSZ))) {
    throw would_differ("the relocations");
  }
  const ElfFacts old_facts = elf_.facts();
  const ElfFacts new_facts = after.facts();
  if (old_facts.needed != new_facts.needed || old_facts.soname != new_facts.soname ||
      old_facts.run_paths != new_facts.run_paths) {
    throw would_differ("the dynamic section");
  }
}

}  // namespace

AddressSpan address_span(const ElfView& elf) {
  AddressSpan span{std::numeric_limits<std::uint64_t>::max(), 0};
  const Architecture* const known = find_architecture(elf.header().e_machine);
  const Architecture& architecture = known != nullptr ? *known : own_architecture();
  for (const Elf64_Phdr& header : elf.program_headers()) {
    if (header.p_type != PT_LOAD) continue;
    constexpr std::uint64_t kLargest = std::uint64_t{1} << 47;
    span.begin = std::min(span.begin, architecture.page_down(header.p_vaddr));
    span.end = std::max(span.end, architecture.page_up(std::min(header.p_vaddr, kLargest) +
                                                       std::min(header.p_memsz, kLargest)));
  }
  if (span.begin > span.end) return {};
  return span;
}

FixedAddress fix_address(std::vector<std::byte>& bytes, std::uint64_t address,
                         const std::string& name) {
  if (address == 0 || address % kAddressUnit != 0) {
    throw Error(ExitCode::kFailed, "internal error: an address that is no multiple of 2 MiB");
  }
  try {
    Fixer fixer(bytes, address, name);
    const std::uint64_t count = fixer.fix();
    bytes = fixer.take_result();
    return {count, {}};
  } catch (const Unsuitable& unsuitable) {
    return {0, unsuitable.why};
  }
}

std::map<std::string, std::uint64_t> choose_addresses(
    const std::map<std::string, std::uint64_t>& sizes, const std::vector<AddressSpan>& taken,
    std::uint64_t seed) {
  const auto unit_up = [](std::uint64_t value) {
    return (value + kAddressUnit - 1) / kAddressUnit * kAddressUnit;
  };
  // Between two files a gap is left, so that a wild pointer behind one isn't in the next.
  std::uint64_t total = 0;
  for (const auto& [name, size] : sizes) total += unit_up(size) + kAddressUnit;
  constexpr std::uint64_t kSpace = kHighestAddress - kLowestAddress;
  if (total >= kSpace) return {};
  const std::uint64_t beginnings = (kSpace - total) / kAddressUnit;
  std::uint64_t next = kLowestAddress + seed % beginnings * kAddressUnit;
  std::map<std::string, std::uint64_t> result;
  for (const auto& [name, size] : sizes) {
    const std::uint64_t length = unit_up(size) + kAddressUnit;
    for (std::size_t i = 0; i < taken.size();) {
      if (next < taken[i].end && taken[i].begin < next + length) {
        next = unit_up(taken[i].end) + kAddressUnit;
        i = 0;
      } else {
        ++i;
      }
    }
    if (next + length > kHighestAddress) return {};
    result.emplace(name, next);
    next += length;
  }
  return result;
}

}  // namespace pyram::builder
