// libFuzzer: any text as a manifest.
#include "tests/fuzz/manifest.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static_cast<void>(
      pyram::test::check_manifest({reinterpret_cast<const char*>(data), size}));  // NOLINT
  return 0;
}
