// What the tests of whole builds share.
#pragma once

#include <filesystem>
#include <string_view>

#include "support/exit_code.h"
#include "support/process.h"
#include "tests/support/fixture.h"

namespace pyram::test {

// A PyPy that starts, with the modules that starting and compiling need and little more: a part of
// the default image, unpacked as DIRECTORY/pypy, so that a build takes seconds.
std::filesystem::path small_pypy(const TemporaryDirectory& directory);

// `pyram-image build` of such a PyPy.
[[nodiscard]] Command build(const std::filesystem::path& prefix,
                            const std::filesystem::path& output,
                            const std::vector<std::string>& more = {});

// A file with its directories.
void make_file(const std::filesystem::path& file, std::string_view text = "x");

[[nodiscard]] std::size_t entries_in(const std::filesystem::path& directory);

// A failure as it has to be: the code, and one last line that has `text` in it.
void check_failure(const Outcome& outcome, ExitCode expected, std::string_view text);

}  // namespace pyram::test
