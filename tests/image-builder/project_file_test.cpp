// pyram.toml and [tool.pyram].
#include "image-builder/project_file.h"

#include <filesystem>
#include <string>
#include <vector>

#include "support/error.h"
#include "support/io.h"
#include "support/process.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"

namespace fs = std::filesystem;
using pyram::Error;
using pyram::ExitCode;
using pyram::Outcome;
using pyram::builder::read_project_file;
using pyram::test::check_failure;
using pyram::test::program;
using pyram::test::TemporaryDirectory;
using Texts = std::vector<std::string>;

TEST_CASE("a project's file says what its image is made of") {
  const TemporaryDirectory directory;
  const std::string text =
      "image = 'shop.sqfs'\nbase = \"debian:sid\"\npackages = ['requests', 'debian:python3-yaml']\n"
      "requirements = ['more.txt']\nkeep = ['a/*']\nstrip = ['b/*']\ntrain = ['go.py']\n"
      "app = 'shop.wsgi:application'\nurls = 'urls.txt'\n";
  CHECK_FALSE(read_project_file(directory.path()));
  const bool own = GENERATE(true, false);
  pyram::write_file(directory / (own ? "pyram.toml" : "pyproject.toml"),
                    own ? text : "[project]\nname = 'shop'\n[tool.pyram]\n" + text);
  const auto project = read_project_file(directory.path());
  REQUIRE(project);
  CHECK(project->output == directory / "shop.sqfs");
  CHECK(project->base == "debian:sid");
  CHECK(project->packages == Texts{"requests", "debian:python3-yaml"});
  CHECK(project->requirements == std::vector<fs::path>{directory / "more.txt"});
  CHECK(project->keep == Texts{"a/*"});
  CHECK(project->strip == Texts{"b/*"});
  CHECK(project->trainings == Texts{(directory / "go.py").native()});
  CHECK(project->application == "shop.wsgi:application");
  CHECK(project->urls == directory / "urls.txt");
}

TEST_CASE("a pyproject.toml without a tool.pyram is none of ours") {
  const TemporaryDirectory directory;
  pyram::write_file(directory / "pyproject.toml", "[tool.black]\nline-length = 100\n");
  CHECK_FALSE(read_project_file(directory.path()));
}

TEST_CASE("a project's file that makes no sense is refused, with the line") {
  struct Refused {
    std::string text;
    std::string why;
  };
  const auto refused = GENERATE(
      Refused{"\npackage = []\n", "line 2: unknown key 'package' (did you mean packages?)"},
      Refused{"packages = 'requests'\n", "line 1: 'packages' is a list of texts"},
      Refused{"keep = [1]\n", "'keep' is a text"}, Refused{"base = 3\n", "'base' is a text"},
      Refused{"base = \n", "line 1: "});
  const TemporaryDirectory directory;
  pyram::write_file(directory / "pyram.toml", refused.text);
  try {
    static_cast<void>(read_project_file(directory.path()));
    FAIL("taken");
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == ExitCode::kUsage);
    CHECK(std::string(error.what()).find(refused.why) != std::string::npos);
  }
}

TEST_CASE("build takes what the project's file says, and the command line before that") {
  const TemporaryDirectory directory;
  const fs::path prefix = pyram::test::small_pypy(directory);
  fs::create_directory(directory / "project");
  pyram::write_file(
      directory / "project/pyram.toml",
      "image = 'out.sqfs'\nbase = 'dir:" + prefix.native() + "'\nstrip = ['*/colorsys.py']\n");
  const auto build = [&](Texts more) {
    Texts words = {program("pyram-image"), "build", "--no-train", "--level", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return pyram::run({words, {}, directory / "project"});
  };
  Outcome outcome = build({});
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
  CHECK(fs::exists(directory / "project/out.sqfs"));
  CHECK(outcome.errors.find("with the settings of ") != std::string::npos);
  outcome = build({"-o", "other.sqfs"});
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
  CHECK(fs::exists(directory / "project/other.sqfs"));
  check_failure(build({"--from", "dir:/nonexistent"}), ExitCode::kBadSource, "/nonexistent");
  fs::remove(directory / "project/pyram.toml");
  check_failure(build({}), ExitCode::kUsage, "build needs --output");
}
