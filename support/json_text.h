// JSON where a whole library of it is too much: in programs that every start runs.
#pragma once

#include <string>
#include <string_view>

namespace pyram {

// A text as JSON has it, with its quotation marks. Bytes that are no UTF-8 stay as they are.
[[nodiscard]] std::string json_text(std::string_view text);

}  // namespace pyram
