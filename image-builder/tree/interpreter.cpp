#include "image-builder/tree/interpreter.h"

#include <nlohmann/json.hpp>

#include "image-builder/elf/file.h"
#include "image-builder/embedded.h"
#include "image-builder/emulator.h"
#include "support/error.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

std::vector<std::string> emulator_of(const fs::path& loader) {
  const Architecture* const architecture = find_architecture(read_elf_facts(loader).machine);
  if (architecture == nullptr) {
    throw Error(ExitCode::kBadSource, "cannot make an image of " + quote(loader.native()) +
                                          ": it is for an unknown processor; use a PyPy for "
                                          "x86-64 or AArch64");
  }
  return emulator(*architecture);
}

}  // namespace

Starter through_loader(const fs::path& loader, const std::vector<fs::path>& library_directories,
                       const fs::path& program, const fs::path& shown_as) {
  std::string directories;
  for (const fs::path& directory : library_directories) {
    if (!directories.empty()) directories.push_back(':');
    directories += directory.native();
  }
  Starter starter{emulator_of(loader)};
  starter.words.insert(starter.words.end(), {loader.native(), "--argv0", shown_as.native(),
                                             "--library-path", directories, program.native()});
  return starter;
}

Command python_command(const Starter& starter, const std::string& program,
                       const std::vector<std::string>& arguments, const fs::path& home) {
  Command command;
  command.arguments = starter.words;
  command.arguments.insert(command.arguments.end(), {"-I", "-c", program});
  command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
  // No hash seed is fixed: PyPy's sets keep the order in which they were filled, so that bytecode
  // doesn't depend on it.
  command.environment = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC0",
                         "HOME=" + home.native(), "TMPDIR=" + home.native()};
  return command;
}

InterpreterFacts ask(const Starter& starter, const fs::path& home) {
  // Bytecode is not written: the tree may be an installation in use.
  Command command = python_command(starter, std::string(facts_program()), {}, home);
  command.arguments.insert(
      command.arguments.begin() + static_cast<std::ptrdiff_t>(starter.words.size()), "-B");
  const Outcome outcome = run(command);
  if (!outcome.ok()) {
    throw Error(ExitCode::kBadSource, "the interpreter " + quote(starter.words.back()) +
                                          " does not start: it ended with " +
                                          std::to_string(outcome.status) + ": " +
                                          outcome.last_line());
  }
  InterpreterFacts facts;
  try {
    const nlohmann::json said = nlohmann::json::parse(outcome.output);
    said.at("implementation").get_to(facts.implementation);
    said.at("python").get_to(facts.python_version);
    said.at("pypy").get_to(facts.pypy_version);
    said.at("version").get_to(facts.version_text);
    said.at("short_version").get_to(facts.short_version);
    said.at("cache_tag").get_to(facts.cache_tag);
    said.at("soabi").get_to(facts.soabi);
    said.at("platform").get_to(facts.platform);
    facts.prefix = said.at("prefix").get<std::string>();
    facts.stdlib = said.at("stdlib").get<std::string>();
    for (const auto& site : said.at("sites")) facts.sites.emplace_back(site.get<std::string>());
    facts.site_in_image = said.at("site_in_image").get<std::string>();
  } catch (const nlohmann::json::exception& error) {
    throw Error(ExitCode::kBadSource, "the interpreter " + quote(starter.words.back()) +
                                          " answered strangely: " + error.what());
  }
  if (facts.implementation != "pypy") {
    throw Error(ExitCode::kBadSource, quote(starter.words.back()) + " is " +
                                          quote(facts.implementation) +
                                          ", not PyPy; name a PyPy for Python 3");
  }
  return facts;
}

}  // namespace pyram::builder
