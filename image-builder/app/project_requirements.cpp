#include "image-builder/app/project_requirements.h"

#include <array>
#include <iterator>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/image/sha256.h"
#include "image-builder/digest.h"
#include "support/error.h"
#include "support/io.h"
#include "support/process.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// A lock file in a form of its tool's own, and the command that writes it as requirements.
struct LockFile {
  std::string_view name;
  std::string_view command;  // Words; the first is the tool.
  std::string_view into;     // What makes the same command write requirements.txt.
  std::string_view needs;    // How to get what the command needs beside the tool.
};

constexpr std::array kLockFiles = {
    LockFile{"uv.lock", "uv export --frozen --no-dev --no-emit-project", " -o requirements.txt",
             ""},
    LockFile{"poetry.lock", "poetry export --only main", " -o requirements.txt",
             "; it needs `poetry self add poetry-plugin-export`"},
    LockFile{"Pipfile.lock", "pipenv requirements --hash", " >requirements.txt", ""},
};

std::vector<std::string> words_of(std::string_view command) {
  std::istringstream words{std::string(command)};
  return {std::istream_iterator<std::string>(words), {}};
}

fs::path exported(const LockFile& lock, const fs::path& project, const fs::path& directory) {
  const std::vector<std::string> words = words_of(lock.command);
  const std::string by_hand =
      "`" + std::string(lock.command) + std::string(lock.into) + "`" + std::string(lock.needs);
  if (!find_program(words.front())) {
    throw Error(ExitCode::kBadSource, "the project has " + std::string(lock.name) +
                                          ", and there is no " + words.front() +
                                          " here to read it; in the project, run " + by_hand);
  }
  const Outcome outcome = run({.arguments = words, .directory = project});
  if (!outcome.ok()) {
    throw Error(ExitCode::kBadSource, "cannot read the project's " + std::string(lock.name) + ": " +
                                          words.front() + " says: " + outcome.last_line() +
                                          " (the command is " + by_hand + ")");
  }
  const std::string digest =
      hexadecimal(sha256(std::as_bytes(std::span(outcome.output)))).substr(0, 32);
  fs::create_directories(directory);
  const fs::path file = directory / (digest + ".txt");
  write_file(file, outcome.output);
  return file;
}

}  // namespace

void add_project_requirements(const fs::path& project, const fs::path& directory,
                              PackageRequest& packages) {
  if (const fs::path file = project / "pylock.toml"; fs::is_regular_file(file)) {
    packages.requirements.push_back(file);
    return;
  }
  if (const fs::path file = project / "requirements.txt"; fs::is_regular_file(file)) {
    packages.requirements.push_back(file);
  } else {
    for (const LockFile& lock : kLockFiles) {
      if (!fs::is_regular_file(project / lock.name)) continue;
      packages.requirements.push_back(exported(lock, project, directory));
      return;
    }
  }
  if (const fs::path file = project / "pyproject.toml"; fs::is_regular_file(file)) {
    packages.projects.push_back(file);
  }
}

}  // namespace pyram::builder
