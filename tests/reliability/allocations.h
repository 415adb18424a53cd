// Having an allocation of this program fail.
#pragma once

namespace pyram::test {

// The allocation of this thread that `skipped` others come before throws std::bad_alloc, once.
void fail_allocation(int skipped);
// None any more. Returns whether one failed.
bool heal_allocations();

// The same of all other threads together: of threads that serve what this one asks for.
void fail_allocation_elsewhere(int skipped);
bool heal_allocations_elsewhere();

}  // namespace pyram::test
