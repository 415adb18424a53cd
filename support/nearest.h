// Which of the known names a misspelt word was probably meant to be.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace pyram {

// The one of `names` that is most like `word`; empty when none is like it. Letters that are
// missing, too many, wrong or swapped count; a name that begins with all of `word` is like it.
[[nodiscard]] std::string_view nearest(std::string_view word,
                                       std::span<const std::string_view> names);

// " (did you mean NAME?)", to be put behind the word in a message; empty when no name is like it.
[[nodiscard]] std::string suggestion(std::string_view word,
                                     std::span<const std::string_view> names);

}  // namespace pyram
