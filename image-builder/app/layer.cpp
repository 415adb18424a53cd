#include "image-builder/app/layer.h"

#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <sstream>

#include "fusefs/image/sha256.h"
#include "image-builder/digest.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// The text of a requirements file and of those that it names.
void add_requirements(const fs::path& file, std::set<fs::path>& seen, nlohmann::json& texts) {
  const fs::path path = fs::absolute(file).lexically_normal();
  if (!seen.insert(path).second || !fs::is_regular_file(path)) return;
  const std::string text = read_file(path);
  texts.push_back(text);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string option;
    std::string name;
    words >> option >> name;
    const bool another =
        option == "-r" || option == "-c" || option == "--requirement" || option == "--constraint";
    if (another && !name.empty()) add_requirements(path.parent_path() / name, seen, texts);
  }
}

}  // namespace

std::string layer_key(const BuildOptions& options) {
  nlohmann::json parts = {
      {"program", sha256_of_file("/proc/self/exe")},
      {"from", options.from},
      {"architecture", options.architecture},
      {"mirror", options.mirror},
      {"names", options.packages.names},
      {"index",
       {options.packages.index_url, options.packages.no_index, options.packages.find_links}},
      {"squash", {options.squash.block_size, options.squash.level}},
      {"libraries", {options.pack_elf, options.relocatable, options.columns, options.train}},
      {"rules", {options.strip, options.keep}}};
  for (const fs::path& rules : options.rules) parts["rules"].push_back(read_file(rules));
  for (const fs::path& wheel : options.packages.wheels) {
    if (fs::is_regular_file(wheel)) parts["wheels"].push_back(sha256_of_file(wheel));
  }
  std::set<fs::path> seen;
  parts["requirements"] = nlohmann::json::array();
  for (const fs::path& file : options.packages.requirements) {
    add_requirements(file, seen, parts["requirements"]);
  }
  for (const fs::path& project : options.packages.projects) {
    parts["projects"].push_back(read_file(project));
  }
  // A file in an encoding that JSON doesn't have is part of the key all the same.
  const std::string text = parts.dump(-1, ' ', true, nlohmann::json::error_handler_t::ignore);
  return hexadecimal(sha256(std::as_bytes(std::span(text)))).substr(0, 32);
}

}  // namespace pyram::builder
