// `pyram-mount --status` for a person: what one wants to know of a mount, in a few lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace pyram {

// How many requests of the mount wait for an answer, as the kernel counts them; nothing where it
// doesn't tell (sysfs is not mounted, or the mount is another user's).
[[nodiscard]] std::optional<std::uint64_t> waiting_requests(
    const std::filesystem::path& mount_point);

// `lines` are those of query_status().
[[nodiscard]] std::string summarise_status(const std::string& lines,
                                           std::optional<std::uint64_t> waiting);

}  // namespace pyram
