// Compares counts with those that were recorded when a change was found to be good.
//
// Seconds say little on a busy machine; what is done for a start can be counted: requests,
// bytes, page faults, instructions. Counts depend on the default image and the kernel as well, so
// that each may be `tolerance` above what recorded.json says; being below is never a failure.
#pragma once

#include <cstdint>
#include <string>

namespace pyram::test {

// Fails the test case (going on with it) if `count` is higher than the recorded one of that name
// allows. With PYRAM_RECORD_COUNTS in the environment it writes the count to recorded.json instead.
void check_count(const std::string& name, std::uint64_t count);

}  // namespace pyram::test
