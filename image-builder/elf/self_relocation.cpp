// Relocates the library that it has been put into, when the library isn't at its address.
//
// A library at a fixed address (elf/fixed_address.h) holds relocated data, and the loader has
// nothing left to do. But the kernel may give it another place: something lies there already, or
// the address space is small, or a tool wants it otherwise. This code is then the library's
// DT_INIT, which the loader calls before any other code of the library. It adds the distance
// between the two places to each word in a table that only this code knows.
//
// Built into a flat piece of machine code that needs nothing: no C library, no relocations, no
// data. Its first byte is the entry. The builder appends a SelfRelocation.
//
// Works on x86-64 and AArch64 Linux.
#include "image-builder/elf/self_relocation.h"

#include <asm/unistd.h>

namespace {

using pyram::builder::SelfRelocation;

// Defined by the linker script: the first byte behind the code.
extern "C" [[gnu::visibility("hidden")]] const SelfRelocation pyram_parameters;

long system_call(long number, long a, long b, long c) {
#if defined(__x86_64__)
  long result = number;
  __asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#else
#error "self-relocation knows x86-64 and AArch64 only"
#endif
}

// The kernel's page size. An address that isn't a whole page is refused, also for no bytes at all.
unsigned long page_size() {
  unsigned long page = 4096;
  while (page < 65536 && system_call(__NR_mprotect, static_cast<long>(page), 0, 0) != 0) page *= 4;
  return page;
}

[[noreturn, gnu::noinline]] void give_up() {
  [[gnu::section(".text.message")]] static constexpr char kWhy[] =
      "pyram: cannot relocate a library: mprotect failed\n";
  system_call(__NR_write, 2, reinterpret_cast<long>(kWhy), sizeof kWhy - 1);
  for (;;) system_call(__NR_exit_group, 127, 0, 0);
}

[[gnu::noinline]] void relocate(unsigned long here, unsigned long bias) {
  constexpr long kRead = 1;  // PROT_READ
  constexpr long kReadWrite = 3;
  constexpr int kBitsPerBitmap = 63;
  const SelfRelocation& parameters = pyram_parameters;
  // As the loader rounds them.
  const unsigned long page = page_size();
  const unsigned long region = here + static_cast<unsigned long>(parameters.protected_begin);
  const unsigned long begin = region & -page;
  const unsigned long end = (region + parameters.protected_size) & -page;
  const auto protect = [&](long protection) {
    if (end > begin && system_call(__NR_mprotect, static_cast<long>(begin),
                                   static_cast<long>(end - begin), protection) != 0) {
      give_up();
    }
  };
  protect(kReadWrite);
  // NOLINTBEGIN(performance-no-int-to-ptr): the table holds addresses as numbers.
  const auto* const table =
      reinterpret_cast<const unsigned long*>(here + static_cast<unsigned long>(parameters.table));
  unsigned long* next = nullptr;
  for (unsigned long i = 0; i < parameters.table_words; ++i) {
    const unsigned long word = table[i];
    if ((word & 1) == 0) {
      next = reinterpret_cast<unsigned long*>(word + bias);
      *next++ += bias;
      continue;
    }
    for (unsigned long bits = word >> 1, *at = next; bits != 0; bits >>= 1, ++at) {
      if ((bits & 1) != 0) *at += bias;
    }
    next += kBitsPerBitmap;
  }
  // NOLINTEND(performance-no-int-to-ptr)
  protect(kRead);
}

}  // namespace

using Initialiser = void(int, char**, char**);

// Called by the loader as any DT_INIT is.
extern "C" [[gnu::section(".text.entry"), gnu::used]] void pyram_relocate_self(int count,
                                                                               char** arguments,
                                                                               char** environment) {
  const auto here = reinterpret_cast<unsigned long>(&pyram_parameters);
  const unsigned long bias = here - pyram_parameters.address;
  if (bias != 0) relocate(here, bias);
  if (pyram_parameters.initialiser == 0) return;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): made from a distance.
  auto* const initialise = reinterpret_cast<Initialiser*>(
      here + static_cast<unsigned long>(pyram_parameters.initialiser));
  initialise(count, arguments, environment);
}
