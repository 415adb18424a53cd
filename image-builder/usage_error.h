// What is wrong with a command line of pyram-image, in words of our own: CLI11's speak of its
// types.
#pragma once

#include <string>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace pyram::builder {

// One line without the program's name. `app` is what refused the command line with `error`.
[[nodiscard]] std::string usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace pyram::builder
