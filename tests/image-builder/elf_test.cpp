// The ELF reader, the closure and the packing of relocations, on libraries that the compiler of
// this machine makes.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>

#include "image-builder/elf_closure.h"
#include "image-builder/elf_file.h"
#include "image-builder/elf_order.h"
#include "image-builder/elf_relr.h"
#include "image-builder/elf_unwind.h"
#include "support/error.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"

namespace fs = std::filesystem;
using namespace pyram::builder;
using pyram::test::TemporaryFolder;

namespace {

// 4,000 words that have to be relocated, some in .data.rel.ro, with others between them.
constexpr char kTables[] = R"(
#include <stdlib.h>
static char text[8000];
#define A(n) &text[n], (void*)(n), &text[n + 7]
#define B(n) A(n), A(n + 10), A(n + 20), A(n + 30), A(n + 40), A(n + 50), A(n + 60), A(n + 70)
#define C(n) B(n), B(n + 100), B(n + 200), B(n + 300), B(n + 400), B(n + 500), B(n + 600)
#define D(n) C(n), C(n + 700), C(n + 1400), C(n + 2100), C(n + 2800), C(n + 3500), C(n + 4200)
void* table[] = {D(0), D(11), D(23), D(31)};
void* const fixed[] = {D(1), D(2)};
struct __attribute__((packed)) odd { char c; void* p; } odd = {1, text};
void* bss[100];
unsigned long table_size = sizeof table / sizeof *table;
unsigned long fixed_size = sizeof fixed / sizeof *fixed;
char* base = text;
void* function = (void*)malloc;
)";

void compile(const fs::path& source, const fs::path& library,
             const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {"cc", "-shared",        "-fPIC",        "-O1",
                                    "-o", library.native(), source.native()};
  words.insert(words.end(), more.begin(), more.end());
  pyram::run_or_throw({words, {}, {}}, pyram::ExitCode::kFailed, "compile a test library");
}

std::vector<std::byte> bytes_of(const fs::path& file) {
  const std::string text = pyram::read_file(file);
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

struct Closer {
  void operator()(void* handle) const { ::dlclose(handle); }
};
using Library = std::unique_ptr<void, Closer>;

// A relocated table of a loaded library, with the library's own address taken off.
std::vector<std::uint64_t> loaded_table(void* library, const char* name, const char* size) {
  const auto* const table = static_cast<const std::uint64_t*>(::dlsym(library, name));
  const auto count = *static_cast<const unsigned long*>(::dlsym(library, size));
  const auto base = *static_cast<const std::uint64_t*>(::dlsym(library, "base"));
  std::vector<std::uint64_t> result(table, table + count);
  for (std::uint64_t& value : result) {
    if (value > 0x100000) value -= base;
  }
  return result;
}

}  // namespace

TEST_CASE("DT_RELR tables hold the addresses that were put in") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint64_t> addresses;
    std::uint64_t address = 0x1000;
    const auto dense = random() % 100;
    for (int i = 0; i < 500; ++i) {
      address += 8 * (random() % 100 < dense ? 1 : 1 + random() % 300);
      if (random() % 100 == 0) address += 2;  // Even, but not a multiple of the word.
      addresses.push_back(address);
    }
    REQUIRE(decode_relr(encode_relr(addresses)) == addresses);
  }
  CHECK(encode_relr({}).empty());
}

TEST_CASE("a library with packed relocations is loaded with the same data") {
  const TemporaryFolder folder;
  std::ofstream(folder / "tables.c") << kTables;
  const fs::path original = folder / "original.so";
  compile(folder / "tables.c", original);
  std::vector<std::byte> bytes = bytes_of(original);
  const RelrResult result = pack_relative_relocations(bytes, "original.so");
  REQUIRE(result.packed > 3000);
  CHECK(result.freed > result.packed * 20);
  const fs::path packed = folder / "packed.so";
  std::ofstream(packed, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));

  const Library before(::dlopen(original.c_str(), RTLD_NOW | RTLD_LOCAL));
  const Library after(::dlopen(packed.c_str(), RTLD_NOW | RTLD_LOCAL));
  REQUIRE(before);
  if (!after) {
    const std::string why = ::dlerror();
    if (why.find("GLIBC_ABI_DT_RELR") != std::string::npos) PYRAM_SKIP("this glibc has no DT_RELR");
    FAIL(why);
  }
  CHECK(loaded_table(before.get(), "table", "table_size") ==
        loaded_table(after.get(), "table", "table_size"));
  CHECK(loaded_table(before.get(), "fixed", "fixed_size") ==
        loaded_table(after.get(), "fixed", "fixed_size"));
  CHECK(*static_cast<void**>(::dlsym(before.get(), "function")) ==
        *static_cast<void**>(::dlsym(after.get(), "function")));

  SECTION("and packing it again changes nothing") {
    const std::vector<std::byte> once = bytes;
    CHECK(pack_relative_relocations(bytes, "packed.so").packed == 0);
    CHECK(bytes == once);
  }
}

TEST_CASE("a library whose pages lie in another order is loaded as the same program") {
  const TemporaryFolder folder;
  // Code, constants, data and zeros of many pages each; a sum over all of it says whether each is
  // where it belongs.
  std::ofstream(folder / "pages.c") << kTables << R"(
#define F(n) __attribute__((aligned(4096))) int f##n(int x) { return x * n + f_next[n](x ^ n); }
static int stop(int x) { return x; }
static int (*const f_next[8])(int) = {stop, stop, stop, stop, stop, stop, stop, stop};
F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
static const unsigned char constants[300000] = {[0] = 3, [100000] = 5, [299999] = 7};
static unsigned char data[300000] = {[1] = 11, [150000] = 13, [299998] = 17};
static unsigned char zeros[300000];
long sum(void) {
  long result = 0;
  for (int i = 0; i < 300000; ++i) {
    result += (long)i * (constants[i] + data[i]) + zeros[i];
    zeros[i] = 1;
  }
  return result + f0(1) + f1(2) + f2(3) + f3(4) + f4(5) + f5(6) + f6(7) + f7(8);
}
)";
  const fs::path original = folder / "original.so";
  compile(folder / "pages.c", original);
  const std::vector<std::byte> bytes = bytes_of(original);
  const Library before(::dlopen(original.c_str(), RTLD_NOW | RTLD_LOCAL));
  REQUIRE(before);
  const auto sum = [](void* library) {
    return reinterpret_cast<long (*)()>(::dlsym(library, "sum"))();
  };
  const long expected = sum(before.get());

  std::mt19937_64 random(3);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::vector<FileRange>> uses(static_cast<std::size_t>(round % 3));
    for (auto& ranges : uses) {
      for (int i = 0; i < 6; ++i) ranges.push_back({random() % bytes.size(), random() % 90000});
    }
    const auto ordered = order_pages(bytes, uses, "original.so");
    REQUIRE(ordered);
    const fs::path file = folder / ("ordered" + std::to_string(round) + ".so");
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(ordered->bytes.data()),
               static_cast<std::streamsize>(ordered->bytes.size()));
    const Library after(::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (!after) FAIL(::dlerror());
    CHECK(sum(after.get()) == expected);
    CHECK(loaded_table(before.get(), "table", "table_size") ==
          loaded_table(after.get(), "table", "table_size"));
    // Each byte that was used is found where it is said to be.
    for (const auto& ranges : uses) {
      for (const FileRange& range : ranges) {
        for (const FileRange& part : ordered->moved(range)) {
          CHECK(part.offset + part.length <= ordered->bytes.size());
        }
      }
    }
    // What has been laid out once can be laid out again.
    const auto again = order_pages(ordered->bytes, {{{0, 9000}}}, "ordered.so");
    REQUIRE(again);
    CHECK(read_elf_facts(file).needed == read_elf_facts(original).needed);
  }
}

TEST_CASE("pages that are used alike come to lie side by side") {
  const TemporaryFolder folder;
  std::ofstream(folder / "big.c") << "char big[1 << 20] = {1};\n";
  compile(folder / "big.c", folder / "big.so");
  const std::vector<std::byte> bytes = bytes_of(folder / "big.so");
  // Four places, far apart, in what is mostly `big`.
  std::vector<FileRange> used;
  for (std::uint64_t i = 1; i <= 4; ++i) used.push_back({200000 * i, 4096});
  const auto ordered = order_pages(bytes, {used}, "big.so");
  REQUIRE(ordered);
  std::vector<std::uint64_t> places;
  for (const FileRange& range : used) {
    for (const FileRange& part : ordered->moved(range)) places.push_back(part.offset);
  }
  const auto [least, most] = std::minmax_element(places.begin(), places.end());
  CHECK(*most - *least < 16 * 4096);
}

TEST_CASE("a library without tables for unwinding works, and C++ keeps its own") {
  const TemporaryFolder folder;
  std::ofstream(folder / "f.c") << "int twice(int x) { return 2 * x; }\n";
  compile(folder / "f.c", folder / "c.so", {"-Wl,-soname,c.so"});
  std::vector<std::byte> bytes = bytes_of(folder / "c.so");
  CHECK(drop_unwind_tables(bytes, "c.so") > 0);
  CHECK(drop_unwind_tables(bytes, "c.so") == 0);
  std::ofstream(folder / "c2.so", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  const Library after(::dlopen((folder / "c2.so").c_str(), RTLD_NOW | RTLD_LOCAL));
  REQUIRE(after);
  CHECK(reinterpret_cast<int (*)(int)>(::dlsym(after.get(), "twice"))(21) == 42);

  std::ofstream(folder / "thrower.cpp")
      << "int f() { try { throw 1; } catch (int i) { return i; } }";
  compile(folder / "thrower.cpp", folder / "cpp.so", {"-Wl,-soname,cpp.so", "-lstdc++"});
  std::vector<std::byte> cpp = bytes_of(folder / "cpp.so");
  CHECK(drop_unwind_tables(cpp, "cpp.so") == 0);
  std::vector<std::byte> libc = bytes_of("/lib/x86_64-linux-gnu/libc.so.6");
  CHECK(drop_unwind_tables(libc, "libc.so.6") == 0);
}

TEST_CASE("a broken ELF file is an error, never a crash") {
  const TemporaryFolder folder;
  std::ofstream(folder / "tables.c") << kTables;
  compile(folder / "tables.c", folder / "good.so");
  const std::vector<std::byte> good = bytes_of(folder / "good.so");
  std::mt19937_64 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::byte> bad = good;
    if (round % 3 == 0) bad.resize(random() % bad.size());
    // The headers and the dynamic section are what matters; most of the file is data.
    const ElfView view(good, "good.so");
    std::uint64_t from = 0;
    std::uint64_t size = 1024;
    for (const Elf64_Phdr& segment : view.program_headers()) {
      if (round % 2 == 0 && segment.p_type == PT_DYNAMIC) {
        from = segment.p_offset;
        size = segment.p_filesz;
      }
    }
    for (int i = 0; i < 4; ++i) {
      const std::uint64_t at = from + random() % size;
      if (at < bad.size()) bad[at] = static_cast<std::byte>(random());
    }
    try {
      const ElfFacts facts = ElfView(bad, "bad.so").facts();
      (void)order_pages(bad, {{{0, 5000}}}, "bad.so");
      if (round % 4 == 0) (void)drop_unwind_tables(bad, "bad.so");
      (void)pack_relative_relocations(bad, "bad.so");
    } catch (const pyram::Error& error) {
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
}

TEST_CASE("the closure holds what is needed, and a missing library is named with who needs it") {
  const TemporaryFolder folder;
  std::ofstream(folder / "a.c") << "int a(void) { return 1; }\n";
  std::ofstream(folder / "b.c") << "int a(void); int b(void) { return a(); }\n";
  std::ofstream(folder / "c.c") << "int b(void); int c(void) { return b(); }\n";
  const fs::path libraries = folder / "libraries";
  const fs::path tree = folder / "tree/lib";
  fs::create_directories(libraries);
  fs::create_directories(tree);
  const std::string search = "-L" + libraries.native();
  compile(folder / "a.c", libraries / "liba-test.so", {"-nostdlib", "-Wl,-soname,liba-test.so"});
  compile(folder / "b.c", libraries / "libb-test.so",
          {"-nostdlib", "-Wl,-soname,libb-test.so", search, "-Wl,--no-as-needed", "-la-test"});
  compile(folder / "c.c", tree / "module.so",
          {"-nostdlib", search, "-Wl,--no-as-needed", "-lb-test",
           "-Wl,-rpath-link," + libraries.native()});

  const auto closure = library_closure({folder / "tree", {libraries}, "ld.so"});
  REQUIRE(closure.size() == 2);
  CHECK(closure.at("libb-test.so").needed_by == "lib/module.so");
  CHECK(closure.at("liba-test.so").needed_by == "libb-test.so");

  fs::remove(libraries / "liba-test.so");
  try {
    (void)library_closure({folder / "tree", {libraries}, "ld.so"});
    FAIL("nothing was missed");
  } catch (const pyram::Error& error) {
    CHECK(error.code() == pyram::ExitCode::kBadSource);
    const std::string text = error.what();
    CHECK(text.find("'liba-test.so'") != std::string::npos);
    CHECK(text.find("'libb-test.so'") != std::string::npos);
  }
}
