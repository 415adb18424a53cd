#include "image-builder/elf/closure.h"

#include <glob.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <memory>
#include <optional>

#include "image-builder/elf/file.h"
#include "support/error.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// A file whose needs have still to be met.
struct Open {
  fs::path file;
  std::string shown;
};

bool is_inside(const fs::path& path, const fs::path& directory) {
  const fs::path relative = path.lexically_relative(directory);
  return !relative.empty() && *relative.begin() != "..";
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// As the loader, passes over libraries for another processor.
std::optional<fs::path> find_in(const std::vector<fs::path>& directories, const std::string& name,
                                std::uint16_t machine) {
  for (const fs::path& directory : directories) {
    std::error_code ignored;
    const fs::path real = fs::canonical(directory / name, ignored);
    if (!ignored && is_elf(real) && machine_of(real) == machine) return real;
  }
  return std::nullopt;
}

std::vector<fs::path> run_path_directories(const ElfFacts& facts, const fs::path& file) {
  std::vector<fs::path> result;
  for (const std::string& path : facts.run_paths) {
    std::string directory = replace_all(path, "${ORIGIN}", file.parent_path().native());
    directory = replace_all(std::move(directory), "$ORIGIN", file.parent_path().native());
    if (directory.starts_with('/')) result.push_back(fs::path(directory).lexically_normal());
  }
  return result;
}

void read_loader_configuration(const fs::path& file, std::vector<fs::path>& directories,
                               int depth) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    line.erase(std::min(line.find('#'), line.size()));
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string::npos) continue;
    line = line.substr(begin, line.find_last_not_of(" \t") - begin + 1);
    constexpr std::string_view kInclude = "include ";
    if (!line.starts_with(kInclude)) {
      directories.emplace_back(line);
      continue;
    }
    fs::path pattern = line.substr(line.find_first_not_of(" \t", kInclude.size()));
    if (pattern.is_relative()) pattern = file.parent_path() / pattern;
    glob_t matches{};
    const std::unique_ptr<glob_t, decltype(&::globfree)> owner(&matches, &::globfree);
    if (depth > 0 && ::glob(pattern.c_str(), 0, nullptr, &matches) == 0) {
      for (std::size_t i = 0; i < matches.gl_pathc; ++i) {
        read_loader_configuration(matches.gl_pathv[i], directories, depth - 1);
      }
    }
  }
}

}  // namespace

std::vector<fs::path> elf_files(const fs::path& tree) {
  std::vector<fs::path> result;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(tree)) {
    if (!entry.is_symlink() && entry.is_regular_file() && is_elf(entry.path())) {
      result.push_back(entry.path());
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::vector<fs::path> system_library_directories() {
  std::vector<fs::path> result;
  read_loader_configuration("/etc/ld.so.conf", result, 4);
  for (const char* directory : {"/lib64", "/usr/lib64", "/lib", "/usr/lib"})
    result.emplace_back(directory);
  return result;
}

std::map<std::string, FoundLibrary> library_closure(const ClosureRequest& request) {
  std::map<std::string, FoundLibrary> found;
  std::deque<Open> open;
  for (const fs::path& file : elf_files(request.tree)) {
    open.push_back({file, file.lexically_relative(request.tree).native()});
  }
  const std::uint16_t machine = open.empty() ? 0 : machine_of(open.front().file);
  for (const std::string& name : request.optional) {
    const auto library = find_in(request.directories, name, machine);
    if (!library) continue;
    found.emplace(name, FoundLibrary{*library, "compiled wheels"});
    open.push_back({*library, name});
  }
  while (!open.empty()) {
    const Open current = std::move(open.front());
    open.pop_front();
    const ElfFacts facts = read_elf_facts(current.file);
    const std::vector<fs::path> own = run_path_directories(facts, current.file);
    for (const std::string& name : facts.needed) {
      if (name == request.loader_name || found.contains(name)) continue;
      if (name.find('/') != std::string::npos) {
        throw Error(ExitCode::kBadSource, "cannot put " + quote(current.shown) +
                                              " into an image: it needs a library by the path " +
                                              quote(name) + "; build it with a plain name");
      }
      if (const auto inside = find_in(own, name, facts.machine);
          inside && is_inside(*inside, request.tree)) {
        continue;
      }
      // A RUNPATH that leads out of the tree is where a source keeps libraries of its own.
      auto library = find_in(own, name, facts.machine);
      if (!library) library = find_in(request.directories, name, facts.machine);
      if (!library) {
        throw Error(ExitCode::kBadSource, "cannot find the library " + quote(name) + " that " +
                                              quote(current.shown) +
                                              " needs; install it or add the package that has it");
      }
      found.emplace(name, FoundLibrary{*library, current.shown});
      open.push_back({*library, name});
    }
  }
  return found;
}

}  // namespace pyram::builder
