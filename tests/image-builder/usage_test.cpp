// What pyram-image says of command lines that make no sense.
#include <string>
#include <vector>

#include "support/error.h"
#include "support/process.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"

using pyram::ExitCode;

TEST_CASE("each command line that makes no sense is refused with what is wrong") {
  struct Refused {
    std::vector<std::string> words;
    std::string why;
  };
  const auto refused = GENERATE(
      Refused{{}, "a command is needed: build, "},
      Refused{{"biuld"}, "unknown command 'biuld' (did you mean build?); the commands are build, "},
      Refused{{"nosuch"}, "unknown command 'nosuch'; the commands are build, "},
      Refused{{"--nosuch"}, "unknown option '--nosuch'"},
      Refused{{"build", "--wiht", "x"},
              "unknown option '--wiht' (did you mean --with?); see pyram-image build --help"},
      Refused{{"build", "-o", "x", "--levle=3"},
              "unknown option '--levle=3' (did you mean --level?)"},
      Refused{{"build"}, "build needs --output; see pyram-image build --help"},
      Refused{{"verify"}, "verify needs IMAGE"},
      Refused{{"info", "a", "b"}, "info has no use for 'b'"},
      Refused{{"build", "-o"}, "--output needs a value"},
      Refused{{"build", "-o", "x", "--level", "3", "--level", "4"},
              "--level is given more than once; see"},
      Refused{{"build", "-o", "x", "--level", "23"},
              "--level needs a number from 1 to 22, not '23'"},
      Refused{{"build", "-o", "x", "--level", "abc"},
              "--level needs a number from 1 to 22, not 'abc'"},
      Refused{{"build", "-o", "x", "--block-size", "5000"}, "--block-size needs a power of two"});
  std::vector<std::string> words = {pyram::test::program("pyram-image")};
  words.insert(words.end(), refused.words.begin(), refused.words.end());
  const pyram::Outcome outcome = pyram::run({words, {}, {}});
  pyram::test::check_failure(outcome, ExitCode::kUsage, refused.why);
  CHECK(outcome.output.empty());
}
