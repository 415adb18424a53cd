#include "tests/image-builder/scene.h"

#include "support/io.h"
#include "tests/support/catch.h"

namespace pyram::test {
namespace fs = std::filesystem;

fs::path small_pypy(const TemporaryDirectory& directory) {
  const fs::path prefix = directory / "pypy";
  pyram::run_or_throw(
      {{"unsquashfs", "-quiet", "-no-progress", "-dest", prefix.native(), default_image().native(),
        "libexec/pyram", "bin", "lib/pypy3*/*.py", "lib/pypy3*/encodings", "lib/pypy3*/collections",
        "lib/pypy3*/importlib", "lib/pypy3*/json", "lib/pypy3*/re"},
       {},
       {}},
      ExitCode::kFailed, "unpack a part of the default image");
  return prefix;
}

Command build(const fs::path& prefix, const fs::path& output,
              const std::vector<std::string>& more) {
  Command command;
  command.arguments = {program("pyram-image"), "build",   "--from", "dir:" + prefix.native(), "-o",
                       output.native(),        "--level", "1"};
  command.arguments.insert(command.arguments.end(), more.begin(), more.end());
  return command;
}

void make_file(const fs::path& file, std::string_view text) {
  fs::create_directories(file.parent_path());
  write_file(file, text);
}

std::size_t entries_in(const fs::path& directory) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

void check_failure(const Outcome& outcome, ExitCode expected, std::string_view text) {
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(expected));
  const std::string last = outcome.last_line();
  CHECK(last.starts_with("pyram-image: "));
  CHECK(last.find(text) != std::string::npos);
}

}  // namespace pyram::test
