// Writes a tree as a SquashFS file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace pyram::builder {

struct SquashOptions {
  std::string compressor = "zstd";
  int level = 19;                     // Of zstd; other compressors take their own default.
  std::uint64_t block_size = 262144;  // Bytes; docs/image-format.md says why.
  std::int64_t time = 0;              // Every time in the image, in seconds since 1970.
  std::filesystem::path sort_file;    // mksquashfs's sort file; may be empty.
  std::function<void(double)> step;   // Told how much is compressed, from 0 to 1; may be empty.
};

// The same tree and options give the same bytes. Throws Error: kMissingTool without mksquashfs,
// kCannotWrite when it fails.
void make_squashfs(const std::filesystem::path& tree, const std::filesystem::path& file,
                   const SquashOptions& options);

// Options with which mksquashfs keeps within `limit` bytes of memory, on a machine of `memory`
// bytes and so many processors; none where the machine has no more than that. By itself it takes a
// quarter of the machine's memory for its buffers, and several MB for each processor, whatever a
// control group allows.
[[nodiscard]] std::vector<std::string> memory_options(std::uint64_t limit, std::uint64_t memory,
                                                      std::uint64_t processors);

// The same for this process: the limit is that of its control groups.
[[nodiscard]] std::vector<std::string> memory_options();

// What mksquashfs's progress bar says, in the pieces in which it comes: the last whole "N%" in
// `text` as a number from 0 to 1. It is taken off `text` with all before it.
[[nodiscard]] std::optional<double> last_percentage(std::string& text);

// Appends the directories and files in `tree` to the root of an image that has none of these names,
// compressed as the image is. Nothing else in it changes. Reproducible, and throws, as
// make_squashfs().
void append_to_squashfs(const std::filesystem::path& tree, const std::filesystem::path& file,
                        std::int64_t time);

}  // namespace pyram::builder
