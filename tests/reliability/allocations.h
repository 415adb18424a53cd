// Having an allocation of this program fail.
#pragma once

namespace pyram::test {

// The allocation of this thread that `skipped` others come before throws std::bad_alloc, once.
void fail_allocation(int skipped);
// None any more. Returns whether one failed.
bool heal_allocations();

}  // namespace pyram::test
