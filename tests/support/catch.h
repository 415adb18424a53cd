// Catch2, version 2 (Debian 12) or 3 (Debian 13), under one name.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <cstdio>

// Ends the test case as skipped, with a reason that is printed; CTest then lists it as skipped.
#define PYRAM_SKIP(reason)                                     \
  do {                                                         \
    std::printf("SKIPPED: %s\n", std::string(reason).c_str()); \
    SUCCEED("skipped");                                        \
    return;                                                    \
  } while (false)

// Skips the test case in a build with sanitizers: what it counts or limits is theirs as well there.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PYRAM_SKIP_WITH_SANITIZERS(reason) PYRAM_SKIP("with sanitizers: " reason)
#else
#define PYRAM_SKIP_WITH_SANITIZERS(reason) static_cast<void>(0)
#endif
#ifdef __SANITIZE_THREAD__
#define PYRAM_SKIP_WITH_TSAN(reason) PYRAM_SKIP("with ThreadSanitizer: " reason)
#else
#define PYRAM_SKIP_WITH_TSAN(reason) static_cast<void>(0)
#endif
