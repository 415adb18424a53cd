// libFuzzer: any text as a hot list.
#include "tests/fuzz/walk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pyram::test::check_hot_list(std::as_bytes(std::span(data, size)));
  return 0;
}
