// Making small images for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pyram::test {

// A SquashFS of `tree`, made by mksquashfs with `options` (zstd where they don't say).
// Returns `image`. Fails the test case where mksquashfs fails.
std::filesystem::path make_image(const std::filesystem::path& tree,
                                 const std::filesystem::path& image,
                                 std::vector<std::string> options = {});

// Changes a bit of a file, in place; a second time, it is as it was.
void flip(const std::filesystem::path& file, std::uint64_t position);

// Bytes that no compressor makes smaller; the same for the same seed.
[[nodiscard]] std::string noise(std::size_t size, unsigned seed = 1);

}  // namespace pyram::test
