#include <filesystem>

#include "image-builder/embedded.h"
#include "image-builder/tree/strip_rules.h"
#include "support/error.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"

namespace fs = std::filesystem;
using namespace pyram::builder;
using pyram::test::make_file;

TEST_CASE("a pattern matches whole names, and ** any number of directories") {
  CHECK(matches("lib/*.py", "lib/os.py"));
  CHECK_FALSE(matches("lib/*.py", "lib/json/tool.py"));
  CHECK(matches("**/*.po", "a/b/c.po"));
  CHECK(matches("**/*.po", "c.po"));
  CHECK(matches("lib/test/", "lib/test/a/b.py"));
  CHECK_FALSE(matches("lib/test/", "lib/test"));
  CHECK_FALSE(matches("lib/test/", "lib/tests/a.py"));
  CHECK(matches("lib/**/tests/", "lib/a/b/tests/x"));
  CHECK(matches("lib/*.[ch]", "lib/x.h"));
}

TEST_CASE("rules remove what they name, keep what is to be kept, and say what they did") {
  const pyram::test::TemporaryDirectory directory;
  make_file(directory / "lib/py/test/a.py", "12345");
  make_file(directory / "lib/py/test/keep.py");
  make_file(directory / "lib/py/os.py");
  make_file(directory / "lib/site/thing/tests/b.py");
  make_file(directory / "lib/py/gone/deep/c.py");
  RuleTable table = parse_rules(
      "[tests] nobody runs them\n{stdlib}/test/\n{site}/*/tests/\n"
      "# a comment\n[other] why not\n{stdlib}/gone/\n!lib/py/test/keep.py\n",
      "a test");
  const auto results = apply_rules(table, {"lib/py", {"lib/site"}}, directory.path());
  REQUIRE(results.size() == 2);
  CHECK(results[0].files == 2);
  CHECK(results[0].bytes == 6);
  CHECK(results[1].files == 1);
  CHECK(fs::exists(directory / "lib/py/test/keep.py"));
  CHECK(fs::exists(directory / "lib/py/os.py"));
  CHECK_FALSE(fs::exists(directory / "lib/py/gone"));
  CHECK_FALSE(fs::exists(directory / "lib/site/thing/tests"));
}

TEST_CASE("a table that makes no sense is refused with its line") {
  for (const char* text : {"lib/x\n", "[a] b\n../etc\n", "[a] b\n/etc\n", "[]\n"}) {
    INFO(text);
    try {
      (void)parse_rules(text, "my.rules");
      FAIL("accepted");
    } catch (const pyram::Error& error) {
      CHECK(error.code() == pyram::ExitCode::kUsage);
      CHECK(std::string(error.what()).find("'my.rules'") != std::string::npos);
      CHECK(std::string(error.what()).find("line ") != std::string::npos);
    }
  }
}

TEST_CASE("the built-in table can be read, and each rule says why") {
  const RuleTable table = parse_rules(default_rules(), "the built-in table");
  CHECK(table.rules.size() > 5);
  for (const StripRule& rule : table.rules) {
    INFO(rule.name);
    CHECK_FALSE(rule.why.empty());
    CHECK_FALSE(rule.patterns.empty());
  }
}
