#include "launcher/command_line.h"

#include <string>
#include <vector>

#include "support/error.h"
#include "tests/support/catch.h"

using pyram::launcher::Action;
using pyram::launcher::CommandLine;

namespace {

struct Parsed {
  explicit Parsed(std::vector<std::string> arguments) : strings(std::move(arguments)) {
    for (std::string& text : strings) pointers.push_back(text.data());
    line = pyram::launcher::parse_command_line(pointers);
  }
  [[nodiscard]] std::vector<std::string> rest() const {
    return {line.interpreter_arguments.begin(), line.interpreter_arguments.end()};
  }
  std::vector<std::string> strings;
  std::vector<char*> pointers;
  CommandLine line;
};

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("Pyram's own options come first and are taken off") {
  const Parsed parsed({"--image", "small", "--toram", "-u", "script.py", "--image", "x"});
  CHECK(parsed.line.image == "small");
  CHECK(parsed.line.to_ram);
  CHECK(parsed.rest() == Words{"-u", "script.py", "--image", "x"});
  CHECK(Parsed({"--image=a b", "x"}).line.image == "a b");
}

TEST_CASE("everything else is the interpreter's, byte for byte") {
  const Words words{"-c", "\xff\xfe", "", "--toram", "a\nb"};
  CHECK(Parsed(words).rest() == words);
  CHECK(Parsed({}).rest().empty());
  CHECK(Parsed({"--imagery"}).rest() == Words{"--imagery"});
}

TEST_CASE("what pyram says itself, and what it adds a line to") {
  CHECK(Parsed({"--pyram-help"}).line.action == Action::kHelp);
  CHECK(Parsed({"--pyram-version"}).line.action == Action::kVersion);
  CHECK(Parsed({"--image", "x", "--pyram-doctor"}).line.action == Action::kDoctor);
  CHECK(Parsed({"--version"}).line.action == Action::kRunAndIntroduce);
  CHECK(Parsed({"-h"}).line.action == Action::kRunAndIntroduce);
  CHECK(Parsed({"script", "--version"}).line.action == Action::kRun);
}

TEST_CASE("an option of Pyram's that makes no sense is refused") {
  CHECK_THROWS_AS(Parsed({"--pyram-frobnicate"}), pyram::Error);
  try {
    const Parsed parsed({"--pyram-docter"});
    FAIL("taken");
  } catch (const pyram::Error& error) {
    CHECK(std::string(error.what()).find("(did you mean --pyram-doctor?)") != std::string::npos);
  }
  CHECK_THROWS_AS(Parsed({"--image"}), pyram::Error);
  CHECK_THROWS_AS(Parsed({"--image", ""}), pyram::Error);
}
