#include "tests/support/image.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "support/process.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"

namespace pyram::test {

std::filesystem::path make_image(const std::filesystem::path& tree,
                                 const std::filesystem::path& image,
                                 std::vector<std::string> options) {
  std::vector<std::string> arguments = {"mksquashfs", tree.native(),  image.native(),
                                        "-noappend",  "-no-progress", "-quiet"};
  if (std::ranges::find(options, "-comp") == options.end()) {
    // Speed counts here, not size.
    options.insert(options.end(), {"-comp", "zstd", "-Xcompression-level", "1"});
  }
  arguments.insert(arguments.end(), options.begin(), options.end());
  const Outcome outcome = run({.arguments = std::move(arguments)});
  INFO("mksquashfs says: " << outcome.errors);
  REQUIRE(outcome.status == 0);
  return image;
}

void flip(const std::filesystem::path& file, std::uint64_t position) {
  const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(fd);
  char byte = 0;
  REQUIRE(::pread(fd.get(), &byte, 1, static_cast<off_t>(position)) == 1);
  byte = static_cast<char>(byte ^ 0x10);
  REQUIRE(::pwrite(fd.get(), &byte, 1, static_cast<off_t>(position)) == 1);
}

std::string noise(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

}  // namespace pyram::test
