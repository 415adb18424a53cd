// Relocates the library that it has been put into, when the library isn't at its address.
//
// A library at a fixed address (elf/fixed_address.h) holds relocated data, and the loader has
// nothing left to do. But the kernel may give it another place: something lies there already, or
// the address space is small, or a tool wants it otherwise. This code is then the library's
// DT_INIT, which the loader calls before any other code of the library. It adds the distance
// between the two places to each word in a table that only this code knows.
//
// It also takes what only the loader was to see out of the process's command line, as it is the
// first of our code to run in a process of the interpreter's.
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

// What behind a string begins the next one. (The barrier: no loop becomes a call of a library.)
char* behind(char* text) {
  while (*text != '\0') {
    ++text;
    __asm__ volatile("");
  }
  return text + 1;
}

// The interpreter is started as `NAME --argv0 NAME --library-path PATH PROGRAM ARGUMENT...`, and
// the loader, which takes its own words off the list of arguments, leaves them in the memory that
// ps and systemctl show as the command line. The arguments are moved there to where they would be
// without these words: `NAME ARGUMENT...`, and zeros behind. Costs a few hundred instructions and
// no page or system call: every process has written there when it was started.
[[gnu::noinline]] void show_own_arguments(int count, char** arguments) {
  // "--argv0" and its zero, in the order of bytes of both processors.
  constexpr unsigned long kOption = 0x00307667'72612d2dUL;
  char* const name = arguments[0];
  const char* const option = name - sizeof kOption;
  unsigned long before = 0;
  for (unsigned i = 0; i < sizeof before; ++i) {
    before |= static_cast<unsigned long>(static_cast<unsigned char>(option[i])) << (8 * i);
    __asm__ volatile("");
  }
  if (before != kOption) return;  // Started otherwise, or done already.
  char* from = behind(name);
  const long name_size = from - name;
  char* const start = name - sizeof before - name_size;
  for (long i = 0; i < name_size; ++i) {
    if (start[i] != name[i]) return;
    __asm__ volatile("");
  }
  for (int word = 0; word < 3; ++word) from = behind(from);  // --library-path PATH PROGRAM
  // As the kernel put them there: one behind the other.
  char* end = from;
  for (int i = 1; i < count; ++i) {
    if (arguments[i] != end) return;
    end = behind(end);
  }
  char* to = start + name_size;
  const long distance = from - to;
  arguments[0] = start;
  for (int i = 1; i < count; ++i) {
    arguments[i] -= distance;
    __asm__ volatile("");
  }
  for (; to != end; ++to, ++from) {
    *to = from < end ? *from : '\0';
    __asm__ volatile("" ::: "memory");
  }
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
  if (count > 0) show_own_arguments(count, arguments);
  if (pyram_parameters.initialiser == 0) return;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): made from a distance.
  auto* const initialise = reinterpret_cast<Initialiser*>(
      here + static_cast<unsigned long>(pyram_parameters.initialiser));
  initialise(count, arguments, environment);
}
