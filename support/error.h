// The one error idiom: throw an Error, catch it at one boundary.
//
// An Error's message is one line for a person: what was tried, on what, and what to do.
// Boundaries are a program's main (message to stderr, exit code) and the FUSE operations
// (errno to the kernel). No exception crosses into C code.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "support/exit_code.h"

namespace pyram {

class Error : public std::exception {
 public:
  // `error_number` is what a FUSE request that runs into this is answered with (EIO unless told).
  Error(ExitCode code, std::string message, int error_number = 0);

  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  [[nodiscard]] ExitCode code() const noexcept { return code_; }
  // An errno value, never 0.
  [[nodiscard]] int error_number() const noexcept { return error_number_; }

 private:
  ExitCode code_;
  std::string message_;
  int error_number_;
};

// "cannot TRIED: STRERROR; ADVICE" from an errno value; `advice` may be empty.
[[nodiscard]] Error system_error(ExitCode code, int error_number, std::string_view tried,
                                 std::string_view advice = {});

// strerror, safe to call from any thread.
[[nodiscard]] std::string describe_errno(int error_number);

// (Not `quoted`: std::quoted would be found by argument-dependent look-up.)
// A path or argument as it may be shown inside a one-line message: quoted, and escaped.
[[nodiscard]] std::string quote(std::string_view text);

// With control characters as "\xHH", for a terminal that would obey them: those of ASCII and, in
// UTF-8, of ISO 6429 (U+0080 to U+009F).
[[nodiscard]] std::string escape(std::string_view text);

}  // namespace pyram
