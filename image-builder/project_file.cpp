#include "image-builder/project_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>

#include "support/error.h"
#include "support/io.h"
#include "support/nearest.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// Reads the values of a table, each by its key.
class Reader {
 public:
  Reader(const fs::path& file, const toml::table& table) : file_(file), table_(table) {}

  void check_keys() const {
    static constexpr std::array<std::string_view, 12> kKeys = {
        "image", "base",  "packages", "requirements", "keep",     "strip",
        "rules", "train", "app",      "script",       "settings", "urls"};
    for (const auto& [key, value] : table_) {
      const std::string_view name = key.str();
      if (std::find(kKeys.begin(), kKeys.end(), name) != kKeys.end()) continue;
      throw wrong(value, "unknown key " + quote(name) + suggestion(name, kKeys));
    }
  }

  void take(std::string_view key, std::string& to) const {
    const toml::node* const node = table_.get(key);
    if (node != nullptr) to = text_of(key, *node);
  }
  void take(std::string_view key, fs::path& to) const {
    std::string text;
    take(key, text);
    if (!text.empty()) to = beside(text);
  }
  void take(std::string_view key, std::vector<std::string>& to) const {
    const toml::node* const node = table_.get(key);
    if (node == nullptr) return;
    const toml::array* const list = node->as_array();
    if (list == nullptr) throw wrong(*node, quote(key) + " is a list of texts");
    for (const toml::node& member : *list) to.push_back(text_of(key, member));
  }
  void take(std::string_view key, std::vector<fs::path>& to) const {
    std::vector<std::string> texts;
    take(key, texts);
    for (const std::string& text : texts) to.push_back(beside(text));
  }

 private:
  [[nodiscard]] std::string text_of(std::string_view key, const toml::node& node) const {
    const auto text = node.value_exact<std::string>();
    if (!text) throw wrong(node, quote(key) + " is a text, or has texts, in quotation marks");
    return *text;
  }

  [[nodiscard]] fs::path beside(const std::string& text) const {
    return (file_.parent_path() / text).lexically_normal();
  }

  [[nodiscard]] Error wrong(const toml::node& node, const std::string& what) const {
    return {ExitCode::kUsage, "cannot use " + quote(file_.native()) + ", line " +
                                  std::to_string(node.source().begin.line) + ": " + what};
  }

  const fs::path& file_;
  const toml::table& table_;
};

ProjectFile read_table(const fs::path& file, const toml::table& table) {
  const Reader reader(file, table);
  reader.check_keys();
  ProjectFile project;
  project.file = file;
  reader.take("image", project.output);
  reader.take("base", project.base);
  reader.take("packages", project.packages);
  reader.take("requirements", project.requirements);
  reader.take("keep", project.keep);
  reader.take("strip", project.strip);
  reader.take("rules", project.rules);
  std::vector<fs::path> trainings;
  reader.take("train", trainings);
  for (const fs::path& script : trainings) project.trainings.push_back(script.native());
  reader.take("app", project.application);
  reader.take("script", project.script);
  reader.take("settings", project.settings);
  reader.take("urls", project.urls);
  return project;
}

toml::table parse(const fs::path& file) {
  try {
    return toml::parse(read_file(file), file.native());
  } catch (const toml::parse_error& error) {
    throw Error(ExitCode::kUsage, "cannot read " + quote(file.native()) + ", line " +
                                      std::to_string(error.source().begin.line) + ": " +
                                      escape(error.description()));
  }
}

}  // namespace

std::optional<ProjectFile> read_project_file(const fs::path& directory) {
  if (const fs::path own = directory / "pyram.toml"; fs::is_regular_file(own)) {
    return read_table(own, parse(own));
  }
  const fs::path shared = directory / "pyproject.toml";
  if (!fs::is_regular_file(shared)) return std::nullopt;
  const toml::table all = parse(shared);
  const toml::node_view<const toml::node> table = all["tool"]["pyram"];
  if (!table) return std::nullopt;
  if (!table.is_table()) {
    throw Error(ExitCode::kUsage,
                "cannot use " + quote(shared.native()) + ": tool.pyram is a table");
  }
  return read_table(shared, *table.as_table());
}

}  // namespace pyram::builder
