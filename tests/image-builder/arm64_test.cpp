// What the builder does to libraries for AArch64, with a compiler for it and qemu-user, on any
// machine.
#include <algorithm>
#include <cstring>
#include <fstream>

#include "image-builder/elf/architecture.h"
#include "image-builder/elf/edit.h"
#include "image-builder/elf/file.h"
#include "image-builder/elf/fixed_address.h"
#include "image-builder/elf/order.h"
#include "image-builder/embedded.h"
#include "support/error.h"
#include "support/io.h"
#include "support/process.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"

namespace fs = std::filesystem;
using namespace pyram::builder;
using pyram::test::TemporaryDirectory;

namespace {

constexpr std::uint64_t kAddress = std::uint64_t{0x1234600000};
constexpr std::uint64_t kLargestPage = 65536;

// Words that have to be relocated, a thread-local one, a constructor that reads them, and a call
// that is bound when it is made.
constexpr char kLibrary[] = R"(
#include <string.h>
static char text[8000];
#define A(n) &text[n], &text[n + 7]
#define B(n) A(n), A(n + 10), A(n + 20), A(n + 30), A(n + 40), A(n + 50), A(n + 60), A(n + 70)
#define C(n) B(n), B(n + 100), B(n + 200), B(n + 300), B(n + 400), B(n + 500), B(n + 600)
#define D(n) C(n), C(n + 700), C(n + 1400), C(n + 2100), C(n + 2800), C(n + 3500), C(n + 4200)
static char* volatile table[] = {D(0), D(11), D(23), D(31)};
static char* const volatile fixed[] = {D(1), D(2)};
static __thread char* local = text + 5;
static const char filler[600000] = {1};
static int ready;
__attribute__((constructor)) static void construct(void) { ready = fixed[1] == text + 8; }
__attribute__((visibility("default"))) int check(void) {
  int wrong = 0;
  for (unsigned i = 0; i + 1 < sizeof table / sizeof *table; i += 2) wrong += table[i + 1] != table[i] + 7;
  return ready + 2 * (local == text + 5) + 4 * (strcmp("a", text) > 0) + 8 * (wrong == 0) +
         16 * (filler[table[1] - text] == 0);
}
)";

// Says what check() says, with the library at its address or, when told, away from it.
constexpr char kProgram[] = R"(
#include <dlfcn.h>
#include <stdio.h>
#include <sys/mman.h>
int main(int count, char** arguments) {
  if (count > 2) mmap((void*)0x1234600000, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  void* library = dlopen(arguments[1], RTLD_LAZY);
  if (!library) return puts(dlerror()), 1;
  int (*check)(void) = (int (*)(void))dlsym(library, "check");
  int there = (unsigned long)check >> 32 == 0x12;
  printf("%d %s\n", check(), there ? "there" : "elsewhere");
  return 0;
}
)";

std::string run_here(const std::vector<std::string>& words) {
  return pyram::run_or_throw({words, {}, {}}, pyram::ExitCode::kFailed, "run " + words.front());
}

fs::path write_library(const fs::path& directory) {
  std::ofstream(directory / "library.c") << kLibrary;
  fs::path library = directory / "library.so";
  run_here({"aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-O1", "-fvisibility=hidden",
            "-Wl,-z,max-page-size=65536", "-o", library.native(),
            (directory / "library.c").native()});
  return library;
}

void write_bytes(const fs::path& file, const std::vector<std::byte>& bytes) {
  pyram::write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// That a kernel with this page size maps each segment from where it lies, and none over another.
void check_pages(const std::vector<std::byte>& bytes, std::uint64_t page) {
  std::uint64_t end = 0;
  for (const Elf64_Phdr& header : ElfView(bytes, "library.so").program_headers()) {
    if (header.p_type != PT_LOAD) continue;
    INFO("page " << page << ", segment at " << std::hex << header.p_vaddr);
    CHECK(header.p_align >= page);
    CHECK(header.p_vaddr % page == header.p_offset % page);
    CHECK(header.p_vaddr / page * page >= end);
    end = (header.p_vaddr + header.p_memsz + page - 1) / page * page;
  }
}

}  // namespace

TEST_CASE("AArch64's relocating code is right wherever in a page it lies") {
  const auto code = self_relocation(EM_AARCH64);
  if (code.empty()) PYRAM_SKIP("built without aarch64-linux-gnu-g++");
  for (std::size_t at = 0; at + 4 <= code.size(); at += 4) {
    std::uint32_t instruction = 0;
    std::memcpy(&instruction, code.data() + at, sizeof instruction);
    INFO("at " << at);
    CHECK((instruction & 0x9f000000U) != 0x90000000U);  // ADRP: by the page of the instruction.
  }
}

TEST_CASE("a library for AArch64 works at its address and elsewhere, with pages up to 64 KiB") {
  if (self_relocation(EM_AARCH64).empty()) PYRAM_SKIP("built without aarch64-linux-gnu-g++");
  if (!pyram::find_program("qemu-aarch64-static")) PYRAM_SKIP("there is no qemu-aarch64-static");
  const TemporaryDirectory directory;
  std::vector<std::byte> bytes = read_bytes(write_library(directory.path()));
  const FixedAddress result = fix_address(bytes, kAddress, "library.so");
  INFO(result.why_not);
  REQUIRE(result.relocations > 1000);
  write_bytes(directory / "library.so", bytes);
  // Small pieces, as training finds them.
  const auto ordered = order_pages(bytes, {{{0, 4096}, {200'000, 9000}}, {{400'000, 100}}}, "f");
  REQUIRE(ordered);
  write_bytes(directory / "ordered.so", ordered->bytes);
  for (const std::uint64_t page : {std::uint64_t{4096}, std::uint64_t{16384}, kLargestPage}) {
    check_pages(bytes, page);
    check_pages(ordered->bytes, page);
  }
  CHECK(is_laid_out(ElfView(ordered->bytes, "f")));

  std::ofstream(directory / "program.c") << kProgram;
  const std::string program = (directory / "program").native();
  run_here({"aarch64-linux-gnu-gcc", "-o", program, (directory / "program.c").native(), "-ldl"});
  for (const char* name : {"library.so", "ordered.so"}) {
    const std::vector<std::string> words = {"qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu",
                                            program, (directory / name).native()};
    CHECK(run_here(words) == "31 there\n");
    std::vector<std::string> away = words;
    away.emplace_back("away");
    CHECK(run_here(away) == "31 elsewhere\n");
  }
}

TEST_CASE("an architecture is known by Debian's name and the kernel's, and by no other") {
  CHECK(architecture_named("arm64").elf == EM_AARCH64);
  CHECK(&architecture_named("aarch64") == &architecture_named("arm64"));
  CHECK(architecture_named("amd64").page == 4096);
  CHECK(architecture_named("arm64").page == kLargestPage);
  CHECK_THROWS_AS(architecture_named("riscv64"), pyram::Error);
  CHECK(find_architecture(EM_RISCV) == nullptr);
}
