// bin/pypy3 of an image: starts the real interpreter through the image's own dynamic loader.
//
// An image has to run on any distribution, also where there is no glibc, but an ELF program names
// its loader by an absolute path, and an image has none. So the file that sys.executable names is
// this static program, which executes
//   ROOT/loader --argv0 ARGV0 --library-path PATH ROOT/program ARG...
// where ROOT is found from where this very file lies, and PATH is the image's own directory of
// libraries and then the user's LD_LIBRARY_PATH. Built without the C and C++ libraries: it
// runs for every child process of a script, and 3 KB start faster than 800.
//
// argv[0] is handed on as it is: a virtual environment's bin/python is a symbolic link to this
// file, and the interpreter finds pyvenv.cfg from the name that it was called by.
//
// Works on x86-64 and AArch64 Linux.
#include <asm/unistd.h>
#include <linux/auxvec.h>
#include <linux/errno.h>
#include <linux/limits.h>

#include "support/image_layout.h"

using size_type = decltype(sizeof 0);

// Where the kernel starts the program: hands the initial stack over as an argument.
#if defined(__x86_64__)
__asm__(
    ".globl _start\n.type _start,@function\n_start:\n"
    "  xor %ebp,%ebp\n  mov %rsp,%rdi\n  and $-16,%rsp\n  call pyram_trampoline\n  hlt\n");
#elif defined(__aarch64__)
__asm__(
    ".globl _start\n.type _start,%function\n_start:\n"
    "  mov x29,#0\n  mov x30,#0\n  mov x0,sp\n  bl pyram_trampoline\n");
#else
#error "the trampoline knows x86-64 and AArch64 only"
#endif

// The compiler may turn loops into calls of these.
extern "C" void* memcpy(void* to, const void* from, size_type count) {
  for (size_type i = 0; i < count; ++i) {
    static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
  }
  return to;
}
extern "C" void* memset(void* to, int value, size_type count) {
  for (size_type i = 0; i < count; ++i) static_cast<char*>(to)[i] = static_cast<char>(value);
  return to;
}

namespace {

long system_call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
  long result = number;
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(a), "S"(b), "d"(c), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#endif
}

long address(const void* pointer) { return reinterpret_cast<long>(pointer); }

size_type length(const char* text) {
  size_type n = 0;
  while (text[n] != '\0') ++n;
  return n;
}

[[noreturn]] void fail(const char* what, const char* file) {
  constexpr char kPrefix[] = "pyram: cannot start the interpreter: ";
  constexpr int kLauncherFailed = 125;  // As ExitCode; its header is no plain array.
  system_call(__NR_write, 2, address(kPrefix), sizeof kPrefix - 1, 0);
  system_call(__NR_write, 2, address(what), static_cast<long>(length(what)), 0);
  system_call(__NR_write, 2, address(file), static_cast<long>(length(file)), 0);
  system_call(__NR_write, 2, address("\n"), 1, 0);
  for (;;) system_call(__NR_exit_group, kLauncherFailed, 0, 0, 0);
}

// A path inside the image, made into an absolute one.
class Path {
 public:
  // The image's root, when `self` is the path of kInterpreter in it.
  void set_root(const char* self, size_type count) {
    if (count >= sizeof text_) fail("its path is too long", "");
    memcpy(text_, self, count);
    size_ = count;
    // Takes off as many names as kInterpreter has, which leaves ROOT/ (or nothing, for a relative
    // path that begins there).
    int names = 1;
    for (const char* c = pyram::layout::kInterpreter; *c != '\0'; ++c) names += *c == '/' ? 1 : 0;
    while (size_ > 0) {
      if (text_[size_ - 1] == '/' && --names == 0) break;
      --size_;
    }
    text_[size_] = '\0';
  }
  Path(const Path& root, const char* name) {
    const size_type count = length(name);
    if (root.size_ + count >= sizeof text_) fail("its path is too long: ", name);
    memcpy(text_, root.text_, root.size_);
    memcpy(text_ + root.size_, name, count + 1);
    size_ = root.size_ + count;
  }
  Path() { text_[0] = '\0'; }
  [[nodiscard]] char* text() { return text_; }

 private:
  char text_[PATH_MAX];
  size_type size_ = 0;
};

constexpr char kVariable[] = "LD_LIBRARY_PATH=";
constexpr size_type kVariableLength = sizeof kVariable - 1;

// What the variable has; the loader takes its last mention, and so do we.
const char* users_library_path(char* const* environment) {
  const char* found = "";
  for (; *environment != nullptr; ++environment) {
    size_type same = 0;
    while (same < kVariableLength && (*environment)[same] == kVariable[same]) ++same;
    if (same == kVariableLength) found = *environment + kVariableLength;
  }
  return found;
}

// Writes the option's value; `to` has room for it.
void set_library_path(char* to, const char* users) {
  constexpr size_type kOwn = sizeof pyram::layout::kLibraryPath - 1;
  memcpy(to, pyram::layout::kLibraryPath, kOwn);
  to[kOwn] = *users == '\0' ? '\0' : ':';
  memcpy(to + kOwn + 1, users, length(users) + 1);
}

}  // namespace

extern "C" [[noreturn]] [[gnu::used]] void pyram_trampoline(long* stack) {
  const long count = stack[0];
  char** const arguments = reinterpret_cast<char**>(stack + 1);
  char** const environment = arguments + count + 1;
  char** end = environment;
  while (*end != nullptr) ++end;
  const char* started_as = "";
  for (const long* entry = reinterpret_cast<long*>(end + 1); entry[0] != AT_NULL; entry += 2) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel hands addresses over as numbers.
    if (entry[0] == AT_EXECFN) started_as = reinterpret_cast<const char*>(entry[1]);
  }

  Path root;
  char self[PATH_MAX];
  constexpr long kHere = -100;  // AT_FDCWD; <fcntl.h> belongs to the C library.
  long n = system_call(__NR_readlinkat, kHere, address("/proc/self/exe"), address(self), PATH_MAX);
  if (n <= 0) {
    // No /proc. A symbolic link is followed once; a virtual environment's needs /proc.
    n = system_call(__NR_readlinkat, kHere, address(started_as), address(self), PATH_MAX);
  }
  if (n > 0) {
    root.set_root(self, static_cast<size_type>(n));
  } else {
    root.set_root(started_as, length(started_as));
  }

  Path loader(root, pyram::layout::kLoader);
  Path program(root, pyram::layout::kProgram);
  Path interpreter(root, pyram::layout::kInterpreter);

  const char* const users = users_library_path(environment);
  auto* const libraries =
      static_cast<char*>(__builtin_alloca(sizeof pyram::layout::kLibraryPath + length(users) + 1));
  set_library_path(libraries, users);

  // The program's arguments and five of our own. The kernel puts no limit on the stack that is
  // lower than what it let the caller pass.
  char option_argv0[] = "--argv0";
  char option_path[] = "--library-path";
  auto** const list =
      static_cast<char**>(__builtin_alloca(static_cast<size_type>(count + 7) * sizeof(char*)));
  size_type used = 0;
  list[used++] = count > 0 ? arguments[0] : interpreter.text();
  list[used++] = option_argv0;
  list[used++] = count > 0 ? arguments[0] : interpreter.text();
  list[used++] = option_path;
  list[used++] = libraries;
  list[used++] = program.text();
  for (long i = 1; i < count; ++i) list[used++] = arguments[i];
  list[used] = nullptr;

  const long error =
      system_call(__NR_execve, address(loader.text()), address(list), address(environment), 0);
  if (error == -E2BIG) fail("the argument list is too long for ", loader.text());
  if (error == -EACCES) {
    fail("no permission, or the file system is mounted noexec: ", loader.text());
  }
  if (error == -ENOENT) fail("the image lacks ", loader.text());
  fail("the kernel refuses to execute ", loader.text());
}
