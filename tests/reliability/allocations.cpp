#include "tests/reliability/allocations.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace pyram::test {
namespace {

constexpr int kNone = -1;
thread_local int skip = kNone;
thread_local bool failed = false;

thread_local bool is_spared = false;  // The thread that asked for others to fail.
std::atomic<int> skip_elsewhere = kNone;
std::atomic<bool> failed_elsewhere = false;

bool is_to_fail() {
  if (skip != kNone && skip-- == 0) {
    failed = true;
    return true;
  }
  if (is_spared) return false;
  int left = skip_elsewhere;
  while (left != kNone && !skip_elsewhere.compare_exchange_weak(left, left - 1)) {
  }
  if (left != 0) return false;
  failed_elsewhere = true;
  return true;
}

}  // namespace

void fail_allocation(int skipped) {
  failed = false;
  skip = skipped;
}

bool heal_allocations() {
  skip = kNone;
  return failed;
}

void fail_allocation_elsewhere(int skipped) {
  is_spared = true;
  failed_elsewhere = false;
  skip_elsewhere = skipped;
}

bool heal_allocations_elsewhere() {
  skip_elsewhere = kNone;
  return failed_elsewhere;
}

}  // namespace pyram::test

// The program's own, in place of the library's.
void* operator new(std::size_t size) {
  if (pyram::test::is_to_fail()) throw std::bad_alloc();
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
