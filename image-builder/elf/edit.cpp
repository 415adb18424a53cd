#include "image-builder/elf/edit.h"

#include "image-builder/elf/relr.h"
#include "support/io.h"

namespace pyram::builder {

std::vector<Elf64_Rela> read_relocations(const ElfView& elf, std::int64_t table,
                                         std::int64_t size) {
  const auto address = elf.dynamic_value(table);
  const auto bytes = elf.dynamic_value(size);
  std::vector<Elf64_Rela> result;
  if (!address || !bytes || *bytes == 0) return result;
  const std::uint64_t offset = elf.file_offset(*address, *bytes);
  result.reserve(*bytes / sizeof(Elf64_Rela));
  for (std::uint64_t i = 0; i < *bytes / sizeof(Elf64_Rela); ++i) {
    result.push_back(elf.at<Elf64_Rela>(offset + i * sizeof(Elf64_Rela)));
  }
  return result;
}

std::vector<std::byte> read_bytes(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

void replace_bytes(const std::filesystem::path& file, std::span<const std::byte> bytes) {
  const std::filesystem::perms mode = std::filesystem::status(file).permissions();
  write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  std::filesystem::permissions(file, mode);
}

std::vector<std::uint64_t> read_packed_relocations(const ElfView& elf) {
  const auto address = elf.dynamic_value(kDtRelr);
  const auto bytes = elf.dynamic_value(kDtRelrSize);
  if (!address || !bytes || *bytes == 0) return {};
  const std::uint64_t offset = elf.file_offset(*address, *bytes);
  std::vector<std::uint64_t> words;
  words.reserve(*bytes / kWord);
  for (std::uint64_t i = 0; i < *bytes / kWord; ++i) {
    words.push_back(elf.at<std::uint64_t>(offset + i * kWord));
  }
  return decode_relr(words);
}

}  // namespace pyram::builder
