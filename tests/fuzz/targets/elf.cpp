// libFuzzer: any bytes as a library.
#include "tests/fuzz/elf.h"

#include <cstddef>
#include <cstdint>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pyram::test::improve_elf(std::as_bytes(std::span(data, size)));
  return 0;
}
