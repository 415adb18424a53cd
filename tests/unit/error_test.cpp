#include "support/error.h"

#include <cerrno>

#include "tests/support/catch.h"

TEST_CASE("an error says what was tried, why it failed and what to do, on one line") {
  const pyram::Error error =
      pyram::system_error(pyram::ExitCode::kBadImage, ENOENT, "open 'x.sqfs'", "build it first");
  CHECK(std::string(error.what()) ==
        "cannot open 'x.sqfs': No such file or directory; build it first");
  CHECK(error.error_number() == ENOENT);
}

TEST_CASE("a name that is shown in a message cannot break the line") {
  CHECK(pyram::quote("a\nb\x1b[1m") == "'a\\x0ab\\x1b[1m'");
  CHECK(pyram::quote("it's") == "'it's'");
  // What terminals obey beside ASCII's: U+009B is a CSI. The letters around it are not.
  CHECK(pyram::quote("\xc2\x9b\x31m\xc2\xa0\xc3\x9b\xc2") == "'\\xc2\\x9b1m\xc2\xa0\xc3\x9b\xc2'");
}
