// Taking a text apart without copying it.
#pragma once

#include <algorithm>
#include <string_view>

namespace pyram {

// What stands in `text` before the first `separator` (all of it, where there is none). It is taken
// off `text`, the separator too.
[[nodiscard]] inline std::string_view take_part(std::string_view& text, char separator) {
  const std::string_view part = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(part.size() + 1, text.size()));
  return part;
}

}  // namespace pyram
