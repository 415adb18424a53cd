// Fetching a file, going on from what is there.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "registry/partial_file.h"
#include "registry/session.h"

namespace pyram::registry {

struct Wanted {
  std::string url;
  std::optional<std::uint64_t> size{};  // As known from elsewhere; otherwise what the server says.
  std::function<void(double done)> progress{};
  std::optional<std::uint64_t> end{};  // Fetch no more than up to here; needs `size`.
};

// Fetches what `file` doesn't have yet, up to the end that is wanted. A
// server that doesn't know ranges sends everything again, which is taken.
// Nothing of the bytes has been checked then but their number. Throws Error: kBadSource,
// kCannotWrite.
void download(Session& session, const Wanted& wanted, PartialFile& file);

// What "Content-Range: bytes FIRST-LAST/TOTAL" says; nothing where it makes no sense.
struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::optional<std::uint64_t> total;
};
[[nodiscard]] std::optional<ContentRange> parse_content_range(std::string_view text);

}  // namespace pyram::registry
