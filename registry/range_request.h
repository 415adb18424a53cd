// One range of a file from a server.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "fusefs/image/partial_image.h"
#include "registry/session.h"

namespace pyram::registry {

struct RangeWanted {
  std::string url;
  std::uint64_t size = 0;     // Of the whole file.
  std::uint64_t rate = 0;     // Bytes a second at most; 0: as they come.
  bool accepts_whole = true;  // What sends everything in place of a range may.
  // The bytes as they come, one after the other: of the range, or of all that a server sends which
  // does not know ranges. May throw, which ends the transfer.
  std::function<void(std::uint64_t position, std::span<const std::byte> bytes)> take;
};

// A single range. `next` says which, for each try: what has not come yet; empty ends it. Throws
// Error: kBadSource, and NoRanges where everything comes and must not. Nothing of the bytes has
// been checked.
class NoRanges : public Error {
 public:
  using Error::Error;
};
void fetch_range(Session& session, const RangeWanted& wanted, Patience& patience,
                 const std::function<ByteRange()>& next);

// How long the file at `url` is, as a server says that knows ranges. Throws as above.
[[nodiscard]] std::uint64_t size_at(Session& session, const std::string& url);

}  // namespace pyram::registry
