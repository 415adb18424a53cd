// Whole builds.
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/error.h"
#include "support/io.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"

namespace fs = std::filesystem;
using namespace pyram::test;
using pyram::Command;
using pyram::ExitCode;
using pyram::Outcome;

TEST_CASE("an image is built from a directory, runs, and is the same file wherever it is built") {
  const TemporaryDirectory directory;
  const fs::path prefix = small_pypy(directory);
  fs::create_directories(directory / "one");
  fs::create_directories(directory / "two words");
  const fs::path first = directory / "one/a.sqfs";
  const fs::path second = directory / "two words/b.sqfs";

  Outcome outcome = pyram::run(build(prefix, first, {"--no-train"}));
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
  Command other = build(prefix, second, {"--no-train", "--quiet"});
  other.arguments.insert(other.arguments.begin(), {"sh", "-c", "umask 077; exec \"$@\"", "sh"});
  other.environment = {"PATH=/usr/bin:/bin", "LC_ALL=de_DE.UTF-8", "TZ=Asia/Tokyo",
                       "TMPDIR=" + (directory / "one").native(), "HOME=/nonexistent"};
  outcome = pyram::run(other);
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
  CHECK(outcome.output.empty());
  CHECK((pyram::read_file(first) == pyram::read_file(second)));
  CHECK(entries_in(directory / "one") == 1);
  CHECK(entries_in(directory / "two words") == 1);

  const fs::path tree = directory / "tree";
  pyram::run_or_throw(
      {{"unsquashfs", "-quiet", "-no-progress", "-dest", tree.native(), first.native()}, {}, {}},
      ExitCode::kFailed, "unpack the image");
  Command start;
  start.environment = std::vector<std::string>{};  // As `env -i` would.
  start.directory = "/";
  start.arguments = {(tree / "bin/pypy3").native(), "-c",
                     "import sys, json; print(json.dumps([sys.prefix, sys.executable, "
                     "list(sys.pyram_version_info[:2])]))"};
  outcome = pyram::run(start);
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
  const auto said = nlohmann::json::parse(outcome.output);
  CHECK(said[0] == tree.native());
  CHECK(said[1] == (tree / "bin/pypy3").native());

  // Nothing of the machine that built it, and bytecode for every module, never to be written anew.
  outcome =
      pyram::run({{"grep", "-r", "-l", "-F", directory.path().native(), tree.native()}, {}, {}});
  CHECK(outcome.output.empty());
  start.arguments = {(tree / "bin/pypy3").native(), "-v", "-c", "import json, collections"};
  outcome = pyram::run(start);
  CHECK(outcome.errors.find("wrote ") == std::string::npos);
  CHECK(outcome.errors.find("bytecode is stale") == std::string::npos);
  CHECK(outcome.errors.find("could not create") == std::string::npos);

  SECTION("and info says what is in it") {
    outcome = pyram::run({{program("pyram-image"), "info", "--json", first.native()}, {}, {}});
    REQUIRE(outcome.ok());
    const auto info = nlohmann::json::parse(outcome.output);
    CHECK(info["image"]["size"] == fs::file_size(first));
    CHECK(info["python"]["implementation"] == "pypy");
    CHECK(info["not_compiled"].empty());
    CHECK(pyram::run({{program("pyram-image"), "info", first.native()}, {}, {}}).ok());
    outcome =
        pyram::run({{program("pyram-image"), "diff", first.native(), second.native()}, {}, {}});
    CHECK(outcome.ok());
    CHECK(outcome.output.empty());
  }
}

TEST_CASE("a trained image is the same file twice, and its library lies in the order of use") {
  if (!fs::exists("/dev/fuse")) PYRAM_SKIP("there is no /dev/fuse");
  const TemporaryDirectory directory;
  const fs::path prefix = small_pypy(directory);
  fs::create_directories(directory / "one");
  fs::create_directories(directory / "a longer name");
  const fs::path first = directory / "one/a.sqfs";
  const fs::path second = directory / "a longer name/b.sqfs";
  for (const fs::path& image : {first, second}) {
    const Outcome outcome = pyram::run(build(prefix, image));
    INFO(outcome.errors);
    REQUIRE(outcome.ok());
    CHECK(outcome.errors.find("not trained") == std::string::npos);
  }
  CHECK((pyram::read_file(first) == pyram::read_file(second)));
  CHECK_FALSE(fs::exists("/tmp/pyram-training"));

  // What the hot list says of the library is at its beginning, but for what is never used at all.
  const Outcome hot = pyram::run({{"unsquashfs", "-cat", first.native(), ".pyram/hot"}, {}, {}});
  std::istringstream lines(hot.output);
  std::uint64_t used = 0;
  std::uint64_t end = 0;
  for (std::string line; std::getline(lines, line) && !line.starts_with("group");) {
    std::istringstream words(line);
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::string path;
    if (!(words >> offset >> length >> path) || path.find("/libpypy") == std::string::npos)
      continue;
    used += length;
    end = std::max(end, offset + length);
  }
  CHECK(used > 1000000);
  CHECK(end < 2 * used);
}

TEST_CASE("a build that fails leaves nothing and says why on one line") {
  const TemporaryDirectory directory;
  const fs::path output_directory = directory / "out";
  fs::create_directories(output_directory);
  const fs::path output = output_directory / "x.sqfs";
  const auto run_build = [&](const std::vector<std::string>& more) {
    Command command;
    command.arguments = {program("pyram-image"), "build",       "-o",
                         output.native(),        "--cache-dir", (directory / "cache").native()};
    command.arguments.insert(command.arguments.end(), more.begin(), more.end());
    return pyram::run(command);
  };
  SECTION("a directory that isn't there") {
    check_failure(run_build({"--from", "dir:/nonexistent"}), ExitCode::kBadSource, "/nonexistent");
  }
  SECTION("a directory without PyPy") {
    check_failure(run_build({"--from", "dir:" + directory.path().native()}), ExitCode::kBadSource,
                  "bin/pypy3");
  }
  SECTION("an interpreter that does not start") {
    fs::create_directories(directory / "pypy/bin");
    fs::copy_file("/bin/true", directory / "pypy/bin/pypy3");
    check_failure(run_build({"--from", "dir:" + (directory / "pypy").native()}),
                  ExitCode::kBadSource, "interpreter");
  }
  SECTION("a program that is no ELF file") {
    fs::create_directories(directory / "pypy/bin");
    std::ofstream(directory / "pypy/bin/pypy3") << "#!/bin/sh\n";
    check_failure(run_build({"--from", "dir:" + (directory / "pypy").native()}),
                  ExitCode::kBadSource, "program file");
  }
  SECTION("a broken library") {
    const fs::path prefix = small_pypy(directory);
    for (const fs::directory_entry& entry : fs::directory_iterator(prefix / "libexec/pyram")) {
      if (entry.path().filename().native().starts_with("libexpat")) {
        fs::copy_file(entry.path(), prefix / "lib/broken.so");
      }
    }
    fs::path stdlib;
    for (const fs::directory_entry& entry : fs::directory_iterator(prefix / "lib")) {
      if (entry.path().filename().native().starts_with("pypy3")) stdlib = entry.path();
    }
    fs::rename(prefix / "lib/broken.so", stdlib / "broken.so");
    fs::resize_file(stdlib / "broken.so", 3000);
    check_failure(run_build({"--from", "dir:" + prefix.native()}), ExitCode::kBadSource,
                  "broken.so");
  }
  SECTION("no network") {
    check_failure(run_build({"--mirror", "http://127.0.0.1:9/debian"}), ExitCode::kBadSource,
                  "fetch");
  }
  SECTION("a suite's name that is none") {
    check_failure(run_build({"--from", "debian:no such"}), ExitCode::kUsage, "no such");
  }
  SECTION("an unknown source") {
    check_failure(run_build({"--from", "zip:x"}), ExitCode::kUsage, "zip:x");
  }
  SECTION("a rules file that makes no sense") {
    std::ofstream(directory / "my.rules") << "[a] b\n/etc\n";
    check_failure(run_build({"--rules", (directory / "my.rules").native()}), ExitCode::kUsage,
                  "line 2");
  }
  CHECK(fs::is_empty(output_directory));
}

TEST_CASE("an output that cannot be written is said before any work") {
  const TemporaryDirectory directory;
  const auto outcome = pyram::run(
      {{program("pyram-image"), "build", "-o", (directory / "no/x.sqfs").native()}, {}, {}});
  check_failure(outcome, ExitCode::kCannotWrite, "no directory");
  Command command =
      as_plain_user({program("pyram-image"), "build", "-o", (directory / "x.sqfs").native()});
  if (running_as_root()) {
    check_failure(pyram::run(command), ExitCode::kCannotWrite, directory.path().native());
  }
}

TEST_CASE("a disk that fills is an error, and what was there stays") {
  if (!running_as_root()) PYRAM_SKIP("mounting a small tmpfs needs root");
  const TemporaryDirectory directory;
  const fs::path prefix = small_pypy(directory);
  const fs::path disk = directory / "disk";
  fs::create_directories(disk);
  REQUIRE(::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=4m") == 0);
  const fs::path output = disk / "x.sqfs";
  std::ofstream(output) << "an older image";
  // First the image doesn't fit, then not even the intermediate files.
  const Outcome image =
      pyram::run(build(prefix, output, {"--no-train", "--work-dir", directory.path().native()}));
  const Outcome stage = pyram::run(build(prefix, output, {"--no-train"}));
  CHECK(pyram::read_file(output) == "an older image");
  CHECK(entries_in(disk) == 1);
  REQUIRE(::umount(disk.c_str()) == 0);
  check_failure(image, ExitCode::kCannotWrite, "");
  check_failure(stage, ExitCode::kCannotWrite, "");
}

TEST_CASE("signals end a build, with all that it started, and nothing stays") {
  const TemporaryDirectory directory;
  const fs::path prefix = small_pypy(directory);
  const fs::path output_directory = directory / "out";
  fs::create_directories(output_directory);
  const Command command = build(prefix, output_directory / "x.sqfs", {"--no-train"});
  std::vector<char*> argv;
  for (const std::string& word : command.arguments) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // The build says its phases on stderr: when the second line comes, work is going on.
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t builder = ::fork();
  REQUIRE(builder >= 0);
  if (builder == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  const pyram::UniqueFd reader(ends[0]);
  char byte = 0;
  for (int lines = 0; lines < 2 && ::read(reader.get(), &byte, 1) == 1;) lines += byte == '\n';
  REQUIRE(::kill(builder, SIGINT) == 0);
  int status = 0;
  REQUIRE(::waitpid(builder, &status, 0) == builder);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 128 + SIGINT);
  // The pipe ends when the last process that had it has ended.
  const std::string rest = pyram::read_to_end(reader.get(), "the build's messages");
  CHECK(rest.find("stopped by") != std::string::npos);
  CHECK(fs::is_empty(output_directory));
}

TEST_CASE(
    "a build ends, and fails as elsewhere, where SIGCHLD is ignored and signals are blocked") {
  const TemporaryDirectory directory;
  const fs::path prefix = small_pypy(directory);
  const fs::path output = directory / "x.sqfs";
  const auto inherited = [](Command command) {
    command.arguments.insert(command.arguments.begin(),
                             {"env", "--ignore-signal=CHLD", "--block-signal"});
    return command;
  };
  const Outcome outcome = pyram::run(inherited(build(prefix, output, {"--no-train"})));
  INFO(outcome.errors);
  CHECK(outcome.ok());
  CHECK(fs::exists(output));
  fs::remove_all(prefix / "bin");
  check_failure(pyram::run(inherited(build(prefix, directory / "y.sqfs", {"--no-train"}))),
                static_cast<ExitCode>(pyram::run(build(prefix, directory / "y.sqfs")).status), "");
}

TEST_CASE("train makes an image of the same files, with the order of another program") {
  if (!fs::exists("/dev/fuse")) PYRAM_SKIP("there is no /dev/fuse");
  const TemporaryDirectory directory;
  const fs::path trained = directory / "trained.sqfs";
  std::ofstream(directory / "program.py") << "import colorsys\n";
  const Outcome outcome =
      pyram::run({{program("pyram-image"), "train", default_image().native(), "-o",
                   trained.native(), "--level", "1", "--", (directory / "program.py").native()},
                  {},
                  {}});
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
  const auto names = [](const fs::path& image) {
    std::istringstream lines(
        pyram::run({{"unsquashfs", "-no-progress", "-l", image.native()}, {}, {}}).output);
    std::vector<std::string> result;
    for (std::string line; std::getline(lines, line);) result.push_back(line);
    std::ranges::sort(result);
    return result;
  };
  const std::vector<std::string> found = names(trained);
  CHECK(found.size() > 1000);
  // No marker of an unpacked tree, out of which it was packed.
  CHECK((found == names(default_image())));
  const Outcome hot = pyram::run({{"unsquashfs", "-cat", trained.native(), ".pyram/hot"}, {}, {}});
  CHECK(hot.output.find("/colorsys.") != std::string::npos);
}

TEST_CASE("info, diff and train refuse what is no image of ours") {
  const TemporaryDirectory directory;
  std::ofstream(directory / "text") << std::string(5000, 'x');
  fs::create_directories(directory / "empty");
  pyram::run_or_throw({{"mksquashfs", (directory / "empty").native(),
                        (directory / "other.sqfs").native(), "-quiet", "-no-progress"},
                       {},
                       {}},
                      ExitCode::kFailed, "make a SquashFS");
  const std::string image = default_image();
  for (const std::string& bad : {(directory / "text").native(), (directory / "missing").native(),
                                 (directory / "other.sqfs").native(), directory.path().native()}) {
    INFO(bad);
    check_failure(pyram::run({{program("pyram-image"), "info", bad}, {}, {}}), ExitCode::kBadImage,
                  "");
    check_failure(pyram::run({{program("pyram-image"), "diff", image, bad}, {}, {}}),
                  ExitCode::kBadImage, "");
    check_failure(pyram::run({{program("pyram-image"), "train", bad, "-o",
                               (directory / "new.sqfs").native(), "--", "x.py"},
                              {},
                              {}}),
                  ExitCode::kBadImage, "");
  }
  CHECK_FALSE(fs::exists(directory / "new.sqfs"));
}
