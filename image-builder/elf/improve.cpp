#include "image-builder/elf/improve.h"

#include <cstddef>
#include <utility>

#include "image-builder/digest.h"
#include "image-builder/elf/closure.h"
#include "image-builder/elf/edit.h"
#include "image-builder/elf/file.h"
#include "image-builder/elf/fixed_address.h"
#include "image-builder/elf/order.h"
#include "image-builder/elf/relr.h"
#include "image-builder/elf/unwind.h"
#include "support/image_layout.h"
#include "support/io.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// Addresses for all libraries, also for those that will not need one: it costs nothing.
std::map<std::string, std::uint64_t> addresses_for(const fs::path& tree,
                                                   const std::vector<fs::path>& files) {
  std::map<std::string, std::uint64_t> sizes;
  std::vector<AddressSpan> taken;
  std::uint64_t seed = 0;
  for (const fs::path& file : files) {
    const std::vector<std::byte> bytes = read_bytes(file);
    const std::string name = file.lexically_relative(tree);
    const AddressSpan span = address_span(ElfView(bytes, name));
    if (span.begin != 0) {
      taken.push_back(span);
      continue;
    }
    sizes.emplace(name, span.end);
    constexpr int kDigits = 15;
    seed = seed * 31 + std::stoull(sha256_of_file(file).substr(0, kDigits), nullptr, 16);
  }
  return choose_addresses(sizes, taken, seed);
}

}  // namespace

std::vector<std::string> improve_libraries(const fs::path& tree, bool relocatable) {
  const fs::path libc = tree / layout::kLibraries / "libc.so.6";
  // The name by which libraries ask for a C library that knows packed relocations.
  const bool packs =
      fs::exists(libc) && read_file(libc).find("GLIBC_ABI_DT_RELR") != std::string::npos;
  const std::vector<fs::path> files = elf_files(tree);
  const auto addresses =
      relocatable ? std::map<std::string, std::uint64_t>{} : addresses_for(tree, files);
  std::vector<std::string> notes;
  for (const fs::path& file : files) {
    std::vector<std::byte> bytes = read_bytes(file);
    const std::string name = file.lexically_relative(tree);
    if (is_laid_out(ElfView(bytes, name))) continue;  // It was improved when it was laid out.
    bool changed = drop_unwind_tables(bytes, name) != 0;
    FixedAddress fixed;
    if (const auto address = addresses.find(name); address != addresses.end()) {
      fixed = fix_address(bytes, address->second, name);
    }
    changed |= fixed.relocations != 0;
    if (fixed.relocations == 0 && packs) {
      const bool packed = pack_relative_relocations(bytes, name).packed != 0;
      changed |= packed;
      if (packed && !fixed.why_not.empty()) {
        notes.push_back(name + " is loaded anywhere: " + fixed.why_not);
      }
    }
    if (changed) replace_bytes(file, bytes);
  }
  return notes;
}

std::map<std::string, std::uint64_t> fixed_addresses(const fs::path& tree) {
  std::map<std::string, std::uint64_t> result;
  for (const fs::path& file : elf_files(tree)) {
    const std::vector<std::byte> bytes = read_bytes(file);
    const std::string name = file.lexically_relative(tree);
    const AddressSpan span = address_span(ElfView(bytes, name));
    if (span.begin != 0) result.emplace(name, span.begin);
  }
  return result;
}

}  // namespace pyram::builder
