#include "support/nearest.h"

#include <array>
#include <string_view>

#include "tests/support/catch.h"

using pyram::nearest;

namespace {

constexpr std::array<std::string_view, 5> kNames{"build", "bundle", "info", "verify", "--threads"};

}  // namespace

TEST_CASE("a misspelt name is known again") {
  CHECK(nearest("biuld", kNames) == "build");
  CHECK(nearest("xerify", kNames) == "verify");
  CHECK(nearest("infos", kNames) == "info");
  CHECK(nearest("bnudle", kNames) == "bundle");
  CHECK(nearest("--thread", kNames) == "--threads");
  CHECK(nearest("-theads", kNames) == "--threads");
}

TEST_CASE("the beginning of a name is like it") { CHECK(nearest("ver", kNames) == "verify"); }

TEST_CASE("a word that is like no name gets no suggestion") {
  CHECK(nearest("nosuch", kNames).empty());
  CHECK(nearest("", kNames).empty());
  CHECK(nearest("--", kNames).empty());
  CHECK(nearest("x", kNames).empty());
  CHECK(nearest(std::string(1000, 'b'), kNames).empty());
  CHECK(pyram::suggestion("nosuch", kNames).empty());
  CHECK(pyram::suggestion("biuld", kNames) == " (did you mean build?)");
}
