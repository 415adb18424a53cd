#include "tests/fuzz/elf.h"

#include <cstdint>
#include <string>
#include <vector>

#include "image-builder/elf/file.h"
#include "image-builder/elf/fixed_address.h"
#include "image-builder/elf/loaded.h"
#include "image-builder/elf/order.h"
#include "image-builder/elf/relr.h"
#include "image-builder/elf/unwind.h"
#include "support/error.h"

namespace pyram::test {
namespace {

using Bytes = std::vector<std::byte>;

const std::string kName = "the library";

// Runs a step on a copy, which replaces the file when the step changed it. What it made has to be
// an ELF file.
template <typename Step>
int attempt(Bytes& file, Step&& step) {
  Bytes copy = file;
  try {
    if (!step(copy)) return 0;
    static_cast<void>(builder::ElfView(copy, kName).facts());
  } catch (const Error&) {
    return 0;
  }
  file = std::move(copy);
  return 1;
}

bool order(Bytes& file) {
  constexpr std::uint64_t kPage = 4096;
  // Every third page is used at each start, every fifth by some programs.
  std::vector<std::vector<builder::FileRange>> uses(2);
  for (std::uint64_t page = 0; page * kPage < file.size(); ++page) {
    if (page % 3 == 0) uses[0].push_back({page * kPage, kPage});
    if (page % 5 == 0) uses[1].push_back({page * kPage, 1});
  }
  auto ordered = builder::order_pages(file, uses, kName);
  if (!ordered) return false;
  for (const auto& range : uses[0]) static_cast<void>(ordered->moved(range));
  file = std::move(ordered->bytes);
  return true;
}

}  // namespace

int improve_elf(std::span<const std::byte> bytes) {
  constexpr std::uint64_t kAddress = std::uint64_t{64} << 30;
  Bytes file(bytes.begin(), bytes.end());
  try {
    const builder::ElfView view(file, kName);
    static_cast<void>(view.facts());
    static_cast<void>(builder::address_span(view));
    static_cast<void>(builder::is_laid_out(view));
  } catch (const Error&) {
    return 0;
  }
  int changes = attempt(file, [](Bytes& f) { return builder::drop_unwind_tables(f, kName) != 0; });
  Bytes packed = file;
  changes += attempt(
      packed, [](Bytes& f) { return builder::pack_relative_relocations(f, kName).packed != 0; });
  changes += attempt(packed, order);
  changes += attempt(
      file, [](Bytes& f) { return builder::fix_address(f, kAddress, kName).relocations != 0; });
  changes += attempt(file, order);
  return changes;
}

}  // namespace pyram::test
