#include "image-builder/elf/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <utility>

#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace {

Error broken(const std::string& name, std::string_view why) {
  return {ExitCode::kBadSource,
          "broken ELF file " + quote(name) + ": " + std::string(why) + "; fetch it again"};
}

std::vector<std::string> split_paths(std::string_view text) {
  std::vector<std::string> result;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(':', begin), text.size());
    if (end > begin) result.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return result;
}

}  // namespace

ElfView::ElfView(std::span<const std::byte> bytes, std::string name)
    : bytes_(bytes), name_(std::move(name)) {
  header_ = at<Elf64_Ehdr>(0);
  if (std::memcmp(header_.e_ident, ELFMAG, SELFMAG) != 0)
    throw broken(name_, "it has no ELF magic");
  if (header_.e_ident[EI_CLASS] != ELFCLASS64 || header_.e_ident[EI_DATA] != ELFDATA2LSB) {
    throw Error(ExitCode::kBadSource, "cannot use " + quote(name_) +
                                          ": it is no 64-bit little-endian ELF file; use packages "
                                          "of this machine's architecture");
  }
  if (header_.e_phnum != 0 && header_.e_phentsize != sizeof(Elf64_Phdr)) {
    throw broken(name_, "its program headers have an unknown size");
  }
}

void ElfView::copy(std::uint64_t offset, std::span<std::byte> into) const {
  if (offset > bytes_.size() || into.size() > bytes_.size() - offset) {
    throw broken(
        name_, "it ends before byte " + std::to_string(offset) + "+" + std::to_string(into.size()));
  }
  std::memcpy(into.data(), bytes_.data() + offset, into.size());
}

std::vector<Elf64_Phdr> ElfView::program_headers() const {
  std::vector<Elf64_Phdr> result;
  result.reserve(header_.e_phnum);
  for (std::uint64_t i = 0; i < header_.e_phnum; ++i) {
    if (header_.e_phoff > bytes_.size()) throw broken(name_, "its program headers lie outside");
    result.push_back(at<Elf64_Phdr>(header_.e_phoff + i * sizeof(Elf64_Phdr)));
  }
  return result;
}

std::vector<Elf64_Dyn> ElfView::dynamic() const {
  std::vector<Elf64_Dyn> result;
  for (const Elf64_Phdr& segment : program_headers()) {
    if (segment.p_type != PT_DYNAMIC) continue;
    if (segment.p_offset > bytes_.size()) throw broken(name_, "its dynamic section lies outside");
    for (std::uint64_t i = 0; i < segment.p_filesz / sizeof(Elf64_Dyn); ++i) {
      const auto entry = at<Elf64_Dyn>(segment.p_offset + i * sizeof(Elf64_Dyn));
      if (entry.d_tag == DT_NULL) break;
      result.push_back(entry);
    }
  }
  return result;
}

std::optional<std::uint64_t> ElfView::dynamic_value(std::int64_t tag) const {
  for (const Elf64_Dyn& entry : dynamic()) {
    if (entry.d_tag == tag) return entry.d_un.d_val;
  }
  return std::nullopt;
}

std::uint64_t ElfView::file_offset(std::uint64_t address, std::uint64_t size) const {
  for (const Elf64_Phdr& segment : program_headers()) {
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr) continue;
    const std::uint64_t inside = address - segment.p_vaddr;
    if (inside >= segment.p_filesz || size > segment.p_filesz - inside) continue;
    if (segment.p_offset > std::numeric_limits<std::uint64_t>::max() - inside) break;
    const std::uint64_t offset = segment.p_offset + inside;
    if (offset > bytes_.size() || size > bytes_.size() - offset) break;
    return offset;
  }
  throw broken(name_, "an address in it belongs to no segment");
}

std::string_view ElfView::text_at(std::uint64_t offset) const {
  if (offset >= bytes_.size()) throw broken(name_, "a name lies outside");
  // Characters may be looked at through any bytes.
  const char* const begin = reinterpret_cast<const char*>(bytes_.data()) + offset;
  const void* const end = std::memchr(begin, '\0', bytes_.size() - offset);
  if (end == nullptr) throw broken(name_, "a name doesn't end");
  return {begin, static_cast<std::size_t>(static_cast<const char*>(end) - begin)};
}

ElfFacts ElfView::facts() const {
  ElfFacts result;
  result.machine = header_.e_machine;
  for (const Elf64_Phdr& segment : program_headers()) {
    if (segment.p_type == PT_INTERP) result.loader = text_at(segment.p_offset);
  }
  const std::vector<Elf64_Dyn> entries = dynamic();
  if (entries.empty()) return result;
  const auto table = dynamic_value(DT_STRTAB);
  if (!table) throw broken(name_, "its dynamic section names no string table");
  const std::uint64_t names = file_offset(*table);
  std::vector<std::string> old_paths;
  for (const Elf64_Dyn& entry : entries) {
    const auto name = [&] {
      if (entry.d_un.d_val > bytes_.size()) throw broken(name_, "a name lies outside");
      return std::string(text_at(names + entry.d_un.d_val));
    };
    if (entry.d_tag == DT_NEEDED) result.needed.push_back(name());
    if (entry.d_tag == DT_SONAME) result.soname = name();
    if (entry.d_tag == DT_RUNPATH) result.run_paths = split_paths(name());
    if (entry.d_tag == DT_RPATH) old_paths = split_paths(name());
  }
  if (result.run_paths.empty()) result.run_paths = std::move(old_paths);
  return result;
}

bool is_elf(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return false;
  std::array<char, SELFMAG> magic{};
  return ::read(fd.get(), magic.data(), magic.size()) == SELFMAG &&
         std::memcmp(magic.data(), ELFMAG, SELFMAG) == 0;
}

std::uint16_t machine_of(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::uint16_t machine = EM_NONE;
  const bool is_read = fd && ::pread(fd.get(), &machine, sizeof machine,
                                     offsetof(Elf64_Ehdr, e_machine)) == sizeof machine;
  return is_read ? machine : std::uint16_t{EM_NONE};
}

ElfFacts read_elf_facts(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  return ElfView(std::as_bytes(std::span(bytes)), path.native()).facts();
}

}  // namespace pyram::builder
