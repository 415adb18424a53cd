// How much memory there is to be had.
#pragma once

#include <cstdint>

namespace pyram {

// Bytes that can be taken without swapping: what the kernel says of the machine (MemAvailable in
// /proc/meminfo), or less where a control group of ours (version 1 or 2, at any level above) has a
// limit. Cached file pages count as free. Never throws: what can't be read doesn't limit.
[[nodiscard]] std::uint64_t available_memory() noexcept;

}  // namespace pyram
