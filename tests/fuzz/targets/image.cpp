// libFuzzer: any bytes as an image.
#include "tests/fuzz/walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static_cast<void>(
      pyram::test::walk_image(pyram::test::file_of(std::as_bytes(std::span(data, size)))));
  return 0;
}
