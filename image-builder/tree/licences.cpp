#include "image-builder/tree/licences.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <optional>
#include <string_view>

#include "image-builder/output_file.h"
#include "support/error.h"
#include "support/process.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kBlanks = " \t\r";

// Of an installed Debian package, as dpkg has it: "libc6:amd64".
struct Installed {
  std::string qualified;
  std::string name;
};

// dpkg knows a file by the path that its package has it under: where /lib is a link to /usr/lib,
// that may be either.
std::optional<Installed> owner_on_this_machine(const fs::path& file) {
  if (!find_program("dpkg-query")) return std::nullopt;
  const fs::path real = fs::canonical(file);
  for (const std::string& path : {real.native(), "/" + real.lexically_relative("/usr").native()}) {
    const Outcome found = run({{"dpkg-query", "--search", path}, {}, {}});
    if (!found.ok() || found.output.starts_with("diversion ")) continue;
    const std::string qualified = found.output.substr(0, found.output.find_first_of(", \n"));
    Installed package{qualified.substr(0, qualified.find_last_not_of(':') + 1), {}};
    package.name = package.qualified.substr(0, package.qualified.find(':'));
    return package;
  }
  return std::nullopt;
}

void put(const fs::path& from, const std::string& package, ImageTree& image) {
  const fs::path to = fs::path("share/doc") / package / "copyright";
  fs::create_directories((image.tree / to).parent_path());
  fs::remove(image.tree / to);
  copy_content(from, image.tree / to);
  image.owners[to.native()] = package;
}

// The package that brought a library of this machine, with its licence.
void add_machine_library(const std::string& path, const fs::path& file, SourceTree& source,
                         ImageTree& image) {
  const std::optional<Installed> owner = owner_on_this_machine(file);
  const fs::path copyright = fs::path("/usr/share/doc") / (owner ? owner->name : "") / "copyright";
  if (!owner || !fs::is_regular_file(copyright)) {
    image.notes.push_back("no licence in the image for " + path + ": it is this machine's " +
                          quote(file.native()) + ", and no Debian package says whose it is");
    return;
  }
  image.owners[path] = owner->name;
  const auto same = [&](const Package& package) { return package.name == owner->name; };
  if (std::any_of(source.packages.begin(), source.packages.end(), same)) return;
  const std::string version =
      run_or_throw({{"dpkg-query", "--show", "--showformat=${Version}", owner->qualified}, {}, {}},
                   ExitCode::kBadSource, "ask dpkg for the version of " + owner->name);
  source.packages.push_back({owner->name, version, "deb", "installed", "", licences_of(copyright)});
  put(copyright, owner->name, image);
}

bool is_licence(const fs::path& file) {
  if (file.extension() == ".py" || file.extension() == ".pyc") return false;
  std::string name = file.filename().native();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::string_view kNames[] = {"license", "licence", "copying", "copyright", "unlicense"};
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](std::string_view word) { return name.starts_with(word); });
}

}  // namespace

std::vector<std::string> licences_of(const fs::path& copyright) {
  constexpr std::string_view kField = "License:";
  constexpr std::string_view kCommon = "/usr/share/common-licenses/";
  std::set<std::string> fields;
  std::set<std::string> references;
  std::ifstream lines(copyright);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kField)) {
      const std::size_t begin = line.find_first_not_of(kBlanks, kField.size());
      if (begin == std::string::npos) continue;
      fields.insert(line.substr(begin, line.find_last_not_of(kBlanks) - begin + 1));
    } else if (const std::size_t at = line.find(kCommon); at != std::string::npos) {
      std::string name = line.substr(at + kCommon.size());
      name.resize(std::min(name.find_first_of(" \t\r'\"`,;:)"), name.size()));
      while (name.ends_with('.')) name.pop_back();  // A sentence's end.
      if (!name.empty()) references.insert(name);
    }
  }
  const std::set<std::string>& names = fields.empty() ? references : fields;
  return {names.begin(), names.end()};
}

std::set<std::string> used_packages(const ImageTree& image) {
  std::set<std::string> used;
  for (const auto& [path, package] : image.owners) {
    if (fs::exists(fs::symlink_status(image.tree / path))) used.insert(package);
  }
  return used;
}

std::vector<std::string> licence_files(const ImageTree& image, const std::string& package) {
  std::vector<std::string> result;
  for (const auto& [path, owner] : image.owners) {
    if (owner == package && is_licence(path) && fs::is_regular_file(image.tree / path)) {
      result.push_back(path);
    }
  }
  return result;
}

void add_licences(SourceTree& source, ImageTree& image) {
  for (const std::string& package : used_packages(image)) {
    // Some packages' directory is a link to another's: what is meant is copied.
    const fs::path copyright = source.prefix / "share/doc" / package / "copyright";
    if (fs::is_regular_file(copyright)) put(copyright, package, image);
  }
  for (const auto& [path, file] : image.machine_files) {
    add_machine_library(path, file, source, image);
  }
  const std::set<std::string> used = used_packages(image);
  for (const Package& package : source.packages) {
    if (package.kind == "deb" && !used.contains(package.name)) continue;
    if (!licence_files(image, package.name).empty()) continue;
    image.notes.push_back("no licence in the image for " + package.name + " " + package.version +
                          ": its " + (package.kind == "deb" ? "package" : package.kind) +
                          " brings no text of one");
  }
}

}  // namespace pyram::builder
