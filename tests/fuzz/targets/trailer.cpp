// libFuzzer: any bytes as what stands behind an image.
#include "tests/fuzz/walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pyram::test::check_trailer(std::as_bytes(std::span(data, size)));
  return 0;
}
