#include "tests/reliability/allocations.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace pyram::test {
namespace {

constexpr int kNone = -1;
thread_local int skip = kNone;
thread_local bool failed = false;

}  // namespace

void fail_allocation(int skipped) {
  failed = false;
  skip = skipped;
}

bool heal_allocations() {
  skip = kNone;
  return failed;
}

}  // namespace pyram::test

// The program's own, in place of the library's.
void* operator new(std::size_t size) {
  using namespace pyram::test;  // NOLINT(google-build-using-namespace): of these two variables
  if (skip != kNone && skip-- == 0) {
    failed = true;
    throw std::bad_alloc();
  }
  void* const memory = std::malloc(std::max<std::size_t>(size, 1));  // NOLINT
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
// The library's calls the one above, a sanitizer's doesn't, and would miss its own delete.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  try {
    return operator new(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* memory) noexcept { std::free(memory); }               // NOLINT
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }  // NOLINT
