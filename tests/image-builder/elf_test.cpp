// The ELF reader, the closure and the packing of relocations, on libraries that the compiler of
// this machine makes.
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>

#include "image-builder/elf/closure.h"
#include "image-builder/elf/edit.h"
#include "image-builder/elf/file.h"
#include "image-builder/elf/fixed_address.h"
#include "image-builder/elf/improve.h"
#include "image-builder/elf/order.h"
#include "image-builder/elf/relr.h"
#include "image-builder/elf/unwind.h"
#include "support/error.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"

namespace fs = std::filesystem;
using namespace pyram::builder;
using pyram::test::TemporaryDirectory;

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
  const TemporaryDirectory directory;
  std::ofstream(directory / "tables.c") << kTables;
  const fs::path original = directory / "original.so";
  compile(directory / "tables.c", original);
  std::vector<std::byte> bytes = read_bytes(original);
  const RelrResult result = pack_relative_relocations(bytes, "original.so");
  REQUIRE(result.packed > 3000);
  CHECK(result.freed > result.packed * 20);
  const fs::path packed = directory / "packed.so";
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

namespace {

constexpr std::uint64_t kAddress = std::uint64_t{0x1234600000};

void write_bytes(const fs::path& file, const std::vector<std::byte>& bytes) {
  pyram::write_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// The bytes of `library` at kAddress.
std::vector<std::byte> fixed(const fs::path& library) {
  std::vector<std::byte> bytes = read_bytes(library);
  const FixedAddress result = fix_address(bytes, kAddress, library.filename());
  INFO(result.why_not);
  REQUIRE(result.relocations > 3000);
  return bytes;
}

// How far it is from its address.
std::uint64_t bias_of(void* library) {
  link_map* map = nullptr;
  REQUIRE(::dlinfo(library, RTLD_DI_LINKMAP, static_cast<void*>(&map)) == 0);
  return map->l_addr;
}

// Constructors, thread-local pointers, a read-only table and calls through the table of slots: what
// the relocating code has to be in time for.
constexpr char kMore[] = R"(
#include <string.h>
#define EXPORTED __attribute__((visibility("default")))
static int ready;
static void* const* seen[] = {fixed, fixed + 1, fixed + 2};
__attribute__((constructor)) static void construct(void) {
  ready = seen[1][0] == fixed[1] && strlen((char*)table[0]) == 0;
}
__thread char* local = text + 5;
__thread char* volatile other[] = {text + 1, text + 2};
EXPORTED int check(void) {
  return ready + 2 * (local == text + 5 && other[1] == text + 2) + 4 * (odd.p == text) +
         8 * (strcmp("a", "b") < 0);
}
static unsigned long relative(void* p) {
  unsigned long distance = (unsigned long)p - (unsigned long)text;
  return distance < sizeof text ? distance + 1000000 : (unsigned long)p;
}
EXPORTED unsigned long sum(void) {
  unsigned long result = 0;
  for (unsigned long i = 0; i < table_size; ++i) result = result * 7 + relative(table[i]);
  for (unsigned long i = 0; i < fixed_size; ++i) result = result * 7 + relative(fixed[i]);
  return result + (function == (void*)malloc);
}
// A program may have a copy of it: it is left to the loader.
EXPORTED char* exported[] = {text + 3};
)";

// Nothing is exported but what says so: of what a program may have a copy the loader takes care.
const std::vector<std::string> kHidden{"-fvisibility=hidden"};

std::vector<std::string> with_hidden(std::vector<std::string> options) {
  options.insert(options.end(), kHidden.begin(), kHidden.end());
  return options;
}

unsigned long sum_of(void* library) {
  return reinterpret_cast<unsigned long (*)()>(::dlsym(library, "sum"))();
}

}  // namespace

TEST_CASE("a library at a fixed address has the same data there, and anywhere else") {
  const TemporaryDirectory directory;
  std::ofstream(directory / "tables.c") << kTables << kMore;
  // Its own DT_INIT and none; bound at once and when called; with and without RELRO.
  const auto options =
      GENERATE(std::vector<std::string>{"-Wl,-z,lazy"}, std::vector<std::string>{"-Wl,-z,now"},
               std::vector<std::string>{"-Wl,-z,norelro", "-Wl,-z,lazy"},
               std::vector<std::string>{"-nostartfiles", "-Wl,-z,lazy"},
               std::vector<std::string>{"-ftls-model=initial-exec"},
               std::vector<std::string>{"-Wl,--hash-style=sysv"},
               std::vector<std::string>{"-Wl,-z,noseparate-code"});
  const fs::path original = directory / "original.so";
  compile(directory / "tables.c", original, with_hidden(options));
  write_bytes(directory / "first.so", fixed(original));
  fs::copy_file(directory / "first.so", directory / "second.so");

  const Library before(::dlopen(original.c_str(), RTLD_NOW | RTLD_LOCAL));
  REQUIRE(before);
  // Whatever lies at the address keeps the library away from it.
  void* const occupied = ::mmap(reinterpret_cast<void*>(kAddress), 4096, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  REQUIRE(occupied == reinterpret_cast<void*>(kAddress));
  const Library elsewhere(::dlopen((directory / "second.so").c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!elsewhere) FAIL(::dlerror());
  CHECK(bias_of(elsewhere.get()) != 0);
  REQUIRE(::munmap(occupied, 4096) == 0);
  const Library there(::dlopen((directory / "first.so").c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!there) FAIL(::dlerror());

  for (void* const after : {there.get(), elsewhere.get()}) {
    INFO("at " << std::hex << bias_of(after));
    CHECK(sum_of(before.get()) == sum_of(after));
    CHECK(**static_cast<char**>(::dlsym(after, "exported")) == 0);
    CHECK(reinterpret_cast<int (*)()>(::dlsym(after, "check"))() == 15);
  }
}

TEST_CASE("a library at a fixed address can be laid out by use, and comes to be loaded there") {
  const TemporaryDirectory directory;
  std::ofstream(directory / "tables.c") << kTables << kMore;
  compile(directory / "tables.c", directory / "original.so", kHidden);
  const auto ordered =
      order_pages(fixed(directory / "original.so"), {{{0, 4096}, {20000, 9000}}}, "f");
  REQUIRE(ordered);
  write_bytes(directory / "ordered.so", ordered->bytes);
  const Library library(::dlopen((directory / "ordered.so").c_str(), RTLD_NOW | RTLD_LOCAL));
  if (!library) FAIL(::dlerror());
  CHECK(reinterpret_cast<int (*)()>(::dlsym(library.get(), "check"))() == 15);
  // glibc before 2.36 asks for the address only when the program has one too; then it is elsewhere.
  if (bias_of(library.get()) != 0) PYRAM_SKIP("this glibc doesn't ask for a library's address");
}

TEST_CASE("libraries that cannot have a fixed address are left as they are, and it is said why") {
  const TemporaryDirectory directory;
  struct Kind {
    std::string source;
    std::vector<std::string> options;
    std::string why;
  };
  const auto kind = GENERATE(
      Kind{"static int a(void) { return 1; } static void* pick(void) { return a; }\n"
           "int f(void) __attribute__((ifunc(\"pick\"), visibility(\"default\")));\n",
           {},
           "IFUNC"},
      Kind{"static int a(void) { return 1; } static void* pick(void) { return a; }\n"
           "static int f(void) __attribute__((ifunc(\"pick\"))); int g(void) { return f(); }\n",
           {},
           "of the kind"},
      Kind{"", {"-Wl,-Ttext-segment=0x700000000"}, "already"},
      Kind{"__asm__(\".text; .quad text\");\n", {"-Wl,-z,notext"}, "code is relocated"},
      Kind{"char* more[] = {text};\n",
           {"-nostartfiles", "-Wl,--spare-dynamic-tags=0"},
           "spare room"});
  std::ofstream(directory / "kind.c") << kTables << kind.source;
  compile(directory / "kind.c", directory / "kind.so", with_hidden(kind.options));
  std::vector<std::byte> bytes = read_bytes(directory / "kind.so");
  const std::vector<std::byte> before = bytes;
  const FixedAddress result = fix_address(bytes, kAddress, "kind.so");
  CHECK(result.relocations == 0);
  INFO(result.why_not);
  CHECK(result.why_not.find(kind.why) != std::string::npos);
  CHECK((bytes == before));
}

TEST_CASE("where code ends with its page, the relocating code has another place") {
  const TemporaryDirectory directory;
  // Code of every size modulo a page, in steps; some leave no room behind it.
  bool was_moved = false;
  for (int size = 0; size < 4096; size += 256) {
    std::ofstream(directory / "tables.c")
        << kTables << kMore << "__asm__(\".text; .fill " << size << ", 1, 0x90\");\n";
    compile(directory / "tables.c", directory / "original.so", kHidden);
    const std::vector<std::byte> bytes = fixed(directory / "original.so");
    const ElfView view(bytes, "fixed.so");
    const auto headers = view.program_headers();
    const auto code = std::find_if(headers.begin(), headers.end(), [&](const Elf64_Phdr& header) {
      const std::uint64_t init = *view.dynamic_value(DT_INIT);
      return header.p_type == PT_LOAD && init >= header.p_vaddr &&
             init < header.p_vaddr + header.p_filesz;
    });
    REQUIRE(code != headers.end());
    CHECK((code->p_flags & PF_X) != 0);
    CHECK((code->p_flags & PF_W) == 0);
    was_moved |= code->p_offset == 0;
    write_bytes(directory / "fixed.so", bytes);
    void* const occupied = ::mmap(reinterpret_cast<void*>(kAddress), 4096, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    const Library library(::dlopen((directory / "fixed.so").c_str(), RTLD_NOW | RTLD_LOCAL));
    if (!library) FAIL(::dlerror());
    CHECK(reinterpret_cast<int (*)()>(::dlsym(library.get(), "check"))() == 15);
    REQUIRE(::munmap(occupied, 4096) == 0);
  }
  CHECK(was_moved);
}

TEST_CASE("addresses neither overlap nor leave the space that is theirs") {
  std::mt19937_64 random(5);
  for (int round = 0; round < 300; ++round) {
    std::map<std::string, std::uint64_t> sizes;
    for (int i = 0; i < 30; ++i) sizes[std::to_string(i)] = random() % (std::uint64_t{1} << 28);
    std::vector<AddressSpan> spans;
    for (int i = 0; i < 5; ++i) {
      const std::uint64_t begin = kLowestAddress + random() % (std::uint64_t{1} << 37);
      spans.push_back({begin, begin + random() % (std::uint64_t{1} << 28)});
    }
    const auto addresses = choose_addresses(sizes, spans, random());
    if (addresses.empty()) continue;  // The beginning was chosen too near to the end.
    REQUIRE(addresses.size() == sizes.size());
    for (const auto& [name, address] : addresses) {
      CHECK(address % kAddressUnit == 0);
      CHECK(address >= kLowestAddress);
      CHECK(address + sizes[name] <= kHighestAddress);
      spans.push_back({address, address + sizes[name]});
    }
    std::sort(spans.begin() + 5, spans.end(),
              [](const AddressSpan& a, const AddressSpan& b) { return a.begin < b.begin; });
    for (std::size_t i = 5; i < spans.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        CHECK((spans[i].begin >= spans[j].end || spans[j].begin >= spans[i].end || j >= 5));
      }
      if (i > 5) CHECK(spans[i].begin >= spans[i - 1].end);
    }
  }
  const auto once = choose_addresses({{"a", 1}, {"b", 1}}, {}, 77);
  CHECK(once == choose_addresses({{"a", 1}, {"b", 1}}, {}, 77));
  CHECK(once != choose_addresses({{"a", 1}, {"b", 1}}, {}, 78));
}

TEST_CASE("a library whose pages lie in another order is loaded as the same program") {
  const TemporaryDirectory directory;
  // Code, constants, data and zeros of many pages each; a sum over all of it says whether each is
  // where it belongs.
  std::ofstream(directory / "pages.c") << kTables << R"(
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
  const fs::path original = directory / "original.so";
  compile(directory / "pages.c", original);
  const std::vector<std::byte> bytes = read_bytes(original);
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
    const fs::path file = directory / ("ordered" + std::to_string(round) + ".so");
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

// A library of an image that is built anew: its tables may lie in several places.
TEST_CASE("a library that has been laid out is not changed again") {
  const TemporaryDirectory directory;
  std::ofstream(directory / "tables.c") << kTables << kMore;
  compile(directory / "tables.c", directory / "tables.so", kHidden);
  const std::vector<std::byte> bytes = read_bytes(directory / "tables.so");
  const ElfView view(bytes, "tables.so");
  REQUIRE_FALSE(is_laid_out(view));
  // Only the second half of the table of relocations is used: the table is cut in two.
  const std::uint64_t table = view.file_offset(*view.dynamic_value(DT_RELA));
  const std::uint64_t size = *view.dynamic_value(DT_RELASZ);
  REQUIRE(size > 16 * 4096);
  const auto ordered = order_pages(bytes, {{{table + size / 2, size / 2}}}, "tables.so");
  REQUIRE(ordered);
  const ElfView pieces(ordered->bytes, "tables.so");
  REQUIRE(is_laid_out(pieces));
  REQUIRE_THROWS(read_relocations(pieces));

  fs::create_directories(directory / "tree/lib");
  write_bytes(directory / "tree/lib/tables.so", ordered->bytes);
  for (const bool relocatable : {false, true}) {
    CHECK(improve_libraries(directory / "tree", relocatable).empty());
    CHECK((read_bytes(directory / "tree/lib/tables.so") == ordered->bytes));
  }
}

TEST_CASE("pages that are used alike come to lie side by side") {
  const TemporaryDirectory directory;
  std::ofstream(directory / "big.c") << "char big[1 << 20] = {1};\n";
  compile(directory / "big.c", directory / "big.so");
  const std::vector<std::byte> bytes = read_bytes(directory / "big.so");
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
  const TemporaryDirectory directory;
  std::ofstream(directory / "f.c") << "int twice(int x) { return 2 * x; }\n";
  compile(directory / "f.c", directory / "c.so", {"-Wl,-soname,c.so"});
  std::vector<std::byte> bytes = read_bytes(directory / "c.so");
  CHECK(drop_unwind_tables(bytes, "c.so") > 0);
  CHECK(drop_unwind_tables(bytes, "c.so") == 0);
  std::ofstream(directory / "c2.so", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  const Library after(::dlopen((directory / "c2.so").c_str(), RTLD_NOW | RTLD_LOCAL));
  REQUIRE(after);
  CHECK(reinterpret_cast<int (*)(int)>(::dlsym(after.get(), "twice"))(21) == 42);

  std::ofstream(directory / "thrower.cpp")
      << "int f() { try { throw 1; } catch (int i) { return i; } }";
  compile(directory / "thrower.cpp", directory / "cpp.so", {"-Wl,-soname,cpp.so", "-lstdc++"});
  std::vector<std::byte> cpp = read_bytes(directory / "cpp.so");
  CHECK(drop_unwind_tables(cpp, "cpp.so") == 0);
  std::vector<std::byte> libc = read_bytes("/lib/x86_64-linux-gnu/libc.so.6");
  CHECK(drop_unwind_tables(libc, "libc.so.6") == 0);
}

TEST_CASE("a broken ELF file is an error, never a crash") {
  const TemporaryDirectory directory;
  std::ofstream(directory / "tables.c") << kTables;
  compile(directory / "tables.c", directory / "good.so");
  const std::vector<std::byte> good = read_bytes(directory / "good.so");
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
      std::vector<std::byte> at_address = bad;
      (void)fix_address(at_address, kAddress, "bad.so");
      (void)pack_relative_relocations(bad, "bad.so");
    } catch (const pyram::Error& error) {
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
}

TEST_CASE("the closure holds what is needed, and a missing library is named with who needs it") {
  const TemporaryDirectory directory;
  std::ofstream(directory / "a.c") << "int a(void) { return 1; }\n";
  std::ofstream(directory / "b.c") << "int a(void); int b(void) { return a(); }\n";
  std::ofstream(directory / "c.c") << "int b(void); int c(void) { return b(); }\n";
  const fs::path libraries = directory / "libraries";
  const fs::path tree = directory / "tree/lib";
  fs::create_directories(libraries);
  fs::create_directories(tree);
  const std::string search = "-L" + libraries.native();
  compile(directory / "a.c", libraries / "liba-test.so", {"-nostdlib", "-Wl,-soname,liba-test.so"});
  compile(directory / "b.c", libraries / "libb-test.so",
          {"-nostdlib", "-Wl,-soname,libb-test.so", search, "-Wl,--no-as-needed", "-la-test"});
  compile(directory / "c.c", tree / "module.so",
          {"-nostdlib", search, "-Wl,--no-as-needed", "-lb-test",
           "-Wl,-rpath-link," + libraries.native()});

  const auto closure = library_closure({directory / "tree", {libraries}, "ld.so"});
  REQUIRE(closure.size() == 2);
  CHECK(closure.at("libb-test.so").needed_by == "lib/module.so");
  CHECK(closure.at("liba-test.so").needed_by == "libb-test.so");

  // Optional ones come where they are to be had for the tree's processor, with what they need.
  fs::rename(tree / "module.so", libraries / "libc-test.so");
  fs::copy_file(libraries / "liba-test.so", tree / "other.so");
  const auto optional = library_closure(
      {directory / "tree", {libraries}, "ld.so", {"libc-test.so", "libnowhere.so"}});
  CHECK(optional.size() == 3);
  CHECK(optional.contains("liba-test.so"));
  fs::rename(libraries / "libc-test.so", tree / "module.so");
  fs::remove(tree / "other.so");

  fs::remove(libraries / "liba-test.so");
  try {
    (void)library_closure({directory / "tree", {libraries}, "ld.so"});
    FAIL("nothing was missed");
  } catch (const pyram::Error& error) {
    CHECK(error.code() == pyram::ExitCode::kBadSource);
    const std::string text = error.what();
    CHECK(text.find("'liba-test.so'") != std::string::npos);
    CHECK(text.find("'libb-test.so'") != std::string::npos);
  }
}
