// The garbage collector's settings of a start on a machine with enough memory.
//
// Shared by the launcher (launcher/collector.h says what they are for) and the builder, whose
// training starts PyPy as the launcher does: what a start reads depends on them.
#pragma once

namespace pyram {

// PYPY_GC_NURSERY. A start allocates 4.5 MB: with a nursery of 5 MB it ends before the first
// collection.
inline constexpr char kUsualNursery[] = "5M";

// GLIBC_TUNABLES. malloc() tells the kernel that blocks of 2 MiB and more may have huge pages: the
// nursery, which every start fills, then costs a page fault for each 2 MiB in place of one for each
// 4 KiB.
inline constexpr char kUsualTunables[] = "glibc.malloc.hugetlb=1";

}  // namespace pyram
