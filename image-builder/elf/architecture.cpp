#include "image-builder/elf/architecture.h"

#include <elf.h>

#include <algorithm>

#include "support/error.h"

namespace pyram::builder {
namespace {

const std::array<Architecture, 2>& table() {
  constexpr std::int64_t kAarch64BtiPlt = 0x70000001;
  constexpr std::int64_t kAarch64PacPlt = 0x70000003;
  constexpr std::int64_t kAarch64VariantPcs = 0x70000005;
  static const std::array<Architecture, 2> architectures{
      Architecture{"amd64",
                   "x86_64",
                   EM_X86_64,
                   4096,
                   R_X86_64_RELATIVE,
                   R_X86_64_JUMP_SLOT,
                   {R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT},
                   {R_X86_64_DTPMOD64, R_X86_64_DTPOFF64, R_X86_64_TPOFF64, R_X86_64_TLSDESC},
                   {}},
      Architecture{
          "arm64",
          "aarch64",
          EM_AARCH64,
          65536,
          R_AARCH64_RELATIVE,
          R_AARCH64_JUMP_SLOT,
          {R_AARCH64_ABS64, R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT},
          {R_AARCH64_TLS_DTPMOD, R_AARCH64_TLS_DTPREL, R_AARCH64_TLS_TPREL, R_AARCH64_TLSDESC},
          {kAarch64BtiPlt, kAarch64PacPlt, kAarch64VariantPcs}}};
  return architectures;
}

}  // namespace

const Architecture* find_architecture(std::uint16_t elf) {
  const auto found = std::find_if(table().begin(), table().end(),
                                  [&](const Architecture& entry) { return entry.elf == elf; });
  return found == table().end() ? nullptr : &*found;
}

const Architecture& architecture_named(std::string_view name) {
  std::string known;
  for (const Architecture& entry : table()) {
    if (entry.debian == name || entry.machine == name) return entry;
    known += (known.empty() ? "" : " or ") + std::string(entry.debian);
  }
  throw Error(ExitCode::kUsage,
              "cannot make images for the architecture " + quote(name) + "; write " + known);
}

const Architecture& own_architecture() {
#if defined(__x86_64__)
  return table()[0];
#elif defined(__aarch64__)
  return table()[1];
#else
#error "pyram-image knows x86-64 and AArch64 only"
#endif
}

}  // namespace pyram::builder
