#include "image-builder/tree/packages.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "image-builder/embedded.h"
#include "support/error.h"
#include "support/io.h"
#include "support/process.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kDebian = "debian:";

bool is_debian(const std::string& name) { return name.starts_with(kDebian); }

// pip runs in another directory.
std::string absolute(const fs::path& file, std::string_view what) {
  if (!fs::is_regular_file(file)) {
    throw Error(ExitCode::kBadSource,
                "there is no " + std::string(what) + ' ' + quote(file.native()));
  }
  return fs::absolute(file).native();
}

std::vector<std::string> pip_requests(const PackageRequest& request) {
  std::vector<std::string> words;
  for (const std::string& name : request.names) {
    if (is_debian(name)) continue;
    if (name.empty() || name.starts_with('-') || name.find('/') != std::string::npos) {
      throw Error(ExitCode::kUsage, quote(name) +
                                        " is no package's name; write NAME or NAME==VERSION, and "
                                        "name files with --wheel or -r");
    }
    words.push_back(name);
  }
  for (const fs::path& wheel : request.wheels) words.push_back(absolute(wheel, "wheel"));
  return words;
}

std::vector<std::string> pip_options(const PackageRequest& request) {
  std::vector<std::string> words;
  if (!request.index_url.empty()) words.insert(words.end(), {"--index-url", request.index_url});
  if (request.no_index) words.emplace_back("--no-index");
  for (const std::string& place : request.find_links) {
    words.insert(words.end(),
                 {"--find-links", fs::exists(place) ? fs::absolute(place).native() : place});
  }
  return words;
}

// As the caller's, since pip's settings (an index, a proxy, certificates) are there, but for what
// changes how Python starts or speaks.
std::vector<std::string> environment() {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("PYTHON") && !text.starts_with("PYPY") && !text.starts_with("LC_") &&
        !text.starts_with("LANG")) {
      result.emplace_back(text);
    }
  }
  result.emplace_back("LC_ALL=C.UTF-8");
  return result;
}

// The directory for what is added: the last one that the source has, else the interpreter's own.
std::string site_for_packages(ImageTree& image) {
  if (image.directories.sites.empty()) {
    image.directories.sites.push_back(image.facts.site_in_image.lexically_relative(image.tree));
  }
  return image.directories.sites.back();
}

}  // namespace

std::vector<std::string> debian_packages(const PackageRequest& request) {
  std::vector<std::string> result;
  for (const std::string& name : request.names) {
    if (is_debian(name)) result.push_back(name.substr(kDebian.size()));
  }
  return result;
}

bool wants_pip(const PackageRequest& request) {
  return !request.wheels.empty() || !request.requirements.empty() || !request.projects.empty() ||
         !std::all_of(request.names.begin(), request.names.end(), is_debian);
}

void install_packages(const PackageRequest& request, SourceTree& source, ImageTree& image,
                      const fs::path& work) {
  const fs::path directory = work / "pip";
  fs::create_directory(directory);
  std::vector<std::string> projects;
  for (const fs::path& file : request.projects) projects.push_back(absolute(file, "project file"));
  std::vector<std::string> requirements;
  for (const fs::path& file : request.requirements) {
    requirements.push_back(absolute(file, "requirements file"));
  }
  const nlohmann::json order = {{"tree", image.tree.native()},
                                {"projects", projects},
                                {"site", (image.tree / site_for_packages(image)).native()},
                                {"work", directory.native()},
                                {"owners", image.owners},
                                {"requests", pip_requests(request)},
                                {"requirements", requirements},
                                {"options", pip_options(request)}};
  write_file(directory / "order.json", order.dump());
  Command command = python_command(image.starter, install_packages_program(),
                                   {(directory / "order.json").native()}, directory);
  command.environment = environment();
  const Outcome outcome = run(command);
  if (!outcome.ok()) {
    throw Error(outcome.status == static_cast<int>(ExitCode::kVerification)
                    ? ExitCode::kVerification
                    : ExitCode::kBadSource,
                outcome.last_line());
  }
  const nlohmann::json said = nlohmann::json::parse(outcome.output);
  said.at("owners").get_to(image.owners);
  for (std::string& note : said.at("notes").get<std::vector<std::string>>()) {
    image.notes.push_back(std::move(note));
  }
  for (const nlohmann::json& package : said.at("installed")) {
    const std::string name = package.at("name");
    source.packages.push_back({name, package.at("version"), "wheel", package.at("source"),
                               package.at("sha256"), package.at("licences")});
    for (const std::string file : package.at("files")) image.owners[file] = name;
  }
  fs::remove_all(directory);
}

void check_extensions(const SourceTree& source, ImageTree& image, const fs::path& work) {
  std::map<std::string, std::string> versions;
  for (const Package& package : source.packages) {
    if (package.kind == "wheel") versions.emplace(package.name, package.version);
  }
  nlohmann::json files = nlohmann::json::array();
  for (const auto& [path, owner] : image.owners) {
    const auto package = versions.find(owner);
    if (package == versions.end() || !path.ends_with(".so")) continue;
    if (fs::is_regular_file(image.tree / path)) files.push_back({owner, package->second, path});
  }
  if (files.empty()) return;
  const fs::path list = work / "extensions.json";
  write_file(list, files.dump());
  Command command = python_command(image.starter, std::string(check_extensions_program()),
                                   {image.tree.native(), list.native()}, work);
  // The tree's bytecode is made later, by us.
  command.arguments.insert(
      command.arguments.begin() + static_cast<std::ptrdiff_t>(image.starter.words.size()), "-B");
  const Outcome outcome = run(command);
  fs::remove(list);
  if (!outcome.ok()) {
    image.notes.push_back("not checked whether the packages' modules load: " + outcome.last_line());
    return;
  }
  for (std::string& note : nlohmann::json::parse(outcome.output).get<std::vector<std::string>>()) {
    image.notes.push_back(std::move(note));
  }
}

}  // namespace pyram::builder
