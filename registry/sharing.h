// One copy on disk of what two images have in common.
#pragma once

#include <cstdint>
#include <filesystem>

namespace pyram::registry {

// Has the file system keep once what a new image has at the same place as an old one, where it can
// (XFS, btrfs). The system compares the bytes itself, so nothing is changed by it. Returns how many
// bytes; 0 also where anything fails: it saves room, and nothing depends on it.
[[nodiscard]] std::uint64_t share_with(const std::filesystem::path& old,
                                       const std::filesystem::path& image) noexcept;

}  // namespace pyram::registry
