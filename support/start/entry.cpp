// Where the kernel starts a static program of ours: says which parts of its file are worth reading.
//
// A program's pages are read from the disk when they are touched, and the kernel reads what lies
// around each of them: 128 KiB, on some machines megabytes, and thereby the whole file for a tenth
// of it. Here the kernel is told to read no more than what is touched, and at once what every start
// touches. The linker put that in one piece at the front of each segment (order.ld).
//
// This runs before anything of the C library: no relocation is done, no thread-local variable is
// there. So it calls nothing. Where a request fails, the program is read as any other.
#include <asm/unistd.h>
#include <linux/mman.h>

#include <cstddef>
#include <cstdint>

// The linker's: where things lie in memory.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
[[gnu::visibility("hidden")]] extern const std::byte __ehdr_start[];
[[gnu::visibility("hidden")]] extern const std::byte pyram_hot_code_end[];
[[gnu::visibility("hidden")]] extern const std::byte __etext[];
[[gnu::visibility("hidden")]] extern const std::byte pyram_hot_constants[];
[[gnu::visibility("hidden")]] extern const std::byte pyram_hot_constants_end[];
[[gnu::visibility("hidden")]] extern const std::byte pyram_data[];
[[gnu::visibility("hidden")]] extern const std::byte pyram_data_end[];
[[gnu::visibility("hidden")]] extern const std::byte _end[];
}
// NOLINTEND(bugprone-reserved-identifier)

#if defined(__x86_64__)
__asm__(
    ".section .text.pyram_entry,\"ax\",@progbits\n"
    ".globl pyram_entry\n.type pyram_entry,@function\npyram_entry:\n"
    "  xor %ebp,%ebp\n  mov %rdx,%rbx\n  call pyram_advise\n  mov %rbx,%rdx\n  jmp _start\n"
    ".previous\n");
#elif defined(__aarch64__)
__asm__(
    ".section .text.pyram_entry,\"ax\",@progbits\n"
    ".globl pyram_entry\n.type pyram_entry,%function\npyram_entry:\n"
    "  mov x29,#0\n  mov x19,x0\n  bl pyram_advise\n  mov x0,x19\n  b _start\n"
    ".previous\n");
#else
#error "the static programs' entry knows x86-64 and AArch64 only"
#endif

namespace {

[[gnu::always_inline]] inline void advise(const std::byte* begin, const std::byte* end,
                                          long advice) {
  // As large as a page can be on either machine: more than is asked for does no harm.
#if defined(__x86_64__)
  constexpr std::uintptr_t kPage = 4096;
#else
  constexpr std::uintptr_t kPage = 65536;
#endif
  const auto first = reinterpret_cast<std::uintptr_t>(begin) & ~(kPage - 1);
  const std::uintptr_t length = reinterpret_cast<std::uintptr_t>(end) - first;
#if defined(__x86_64__)
  long result = __NR_madvise;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(first), "S"(length), "d"(advice)
                   : "rcx", "r11", "memory");
#else
  register std::uintptr_t x0 __asm__("x0") = first;
  register std::uintptr_t x1 __asm__("x1") = length;
  register long x2 __asm__("x2") = advice;
  register long x8 __asm__("x8") = __NR_madvise;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
#endif
}

}  // namespace

extern "C" [[gnu::used, gnu::visibility("hidden"), gnu::section(".text.pyram_advise")]] void
pyram_advise() {
  advise(__ehdr_start, _end, MADV_RANDOM);
  // From Linux 6.16 on, code is read on to the end of its mapping all the same. Where the advice
  // differs a mapping ends, and code is in no core dump anyway.
  constexpr std::ptrdiff_t kPiece = 64 << 10;
  for (const std::byte* piece = pyram_hot_code_end; __etext - piece > kPiece; piece += 2 * kPiece) {
    advise(piece, piece + kPiece, MADV_DONTDUMP);
  }
  advise(__ehdr_start, pyram_hot_code_end, MADV_WILLNEED);
  advise(pyram_hot_constants, pyram_hot_constants_end, MADV_WILLNEED);
  advise(pyram_data, pyram_data_end, MADV_WILLNEED);
}
