// What a build says while it runs.
#include <filesystem>
#include <string>

#include "image-builder/output/info.h"
#include "image-builder/output/squash.h"
#include "support/process.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"

namespace fs = std::filesystem;
using pyram::Outcome;
using pyram::builder::last_percentage;
using pyram::test::small_pypy;
using pyram::test::TemporaryDirectory;

TEST_CASE("mksquashfs's progress is read out of its bar, in whatever pieces that comes") {
  std::string text = "\r[===-    ]  12/100  12%\r[======- ]  60/100  6";
  CHECK(last_percentage(text) == 0.12);
  CHECK_FALSE(last_percentage(text));
  text += "0%";
  CHECK(last_percentage(text) == 0.6);
  CHECK(text.empty());
  text = "%";
  CHECK_FALSE(last_percentage(text));
  text = "7%";  // As later versions print it for programs.
  CHECK(last_percentage(text) == 0.07);
  text = "9999999999999%";
  CHECK_FALSE(last_percentage(text));
}

TEST_CASE("what is listed of an image fits a terminal") {
  CHECK(pyram::builder::fit("name: a long line\n    a name and more\n", 12) ==
        "name: a long line\n    a na ...\n");
  CHECK(pyram::builder::fit("    a name and more\n", 0) == "    a name and more\n");
  CHECK(pyram::builder::fit("    \xc3\xa4\xc3\xa4\xc3\xa4\n", 9) == "     ...\n");
}

TEST_CASE("a build's bar moves while it compresses, and warns of nothing that is always so") {
  const TemporaryDirectory directory;
  const fs::path prefix = small_pypy(directory);
  fs::create_directories(prefix / "share/zoneinfo");
  fs::create_symlink("/etc/localtime", prefix / "share/zoneinfo/localtime");
  fs::create_symlink("/etc/othertime", prefix / "share/zoneinfo/othertime");
  pyram::Command build = pyram::test::build(prefix, directory / "x.sqfs", {"--no-train"});
  std::string line;
  for (const std::string& word : build.arguments) line += " '" + word + "'";
  const Outcome outcome = pyram::run(
      {{"sh", "-c", "TERM=xterm exec script -qec \"$0\" /dev/null", line.substr(1)}, {}, {}});
  INFO(outcome.output << outcome.errors);
  REQUIRE(outcome.ok());
  CHECK(outcome.output.find("compressing the image, 100%") != std::string::npos);
  CHECK(outcome.output.find("zoneinfo/othertime") != std::string::npos);
  CHECK(outcome.output.find("zoneinfo/localtime") == std::string::npos);
}
