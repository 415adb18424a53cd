#include "image-builder/tree/strip_rules.h"

#include <fnmatch.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "support/error.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) names.emplace_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// A pattern cut into names, so that it is cut only once for thousands of paths.
class Pattern {
 public:
  explicit Pattern(std::string_view text) : names_(split(text)) {
    if (text.ends_with('/')) names_.emplace_back("**");
    // "a/**" means what lies below a, not a itself: at least one name.
    if (!names_.empty() && names_.back() == "**") names_.emplace_back("*");
  }
  [[nodiscard]] bool matches(const std::vector<std::string>& path) const {
    return matches_from(0, path, 0);
  }

 private:
  [[nodiscard]] bool matches_from(std::size_t at, const std::vector<std::string>& path,
                                  std::size_t from) const {
    for (; at < names_.size(); ++at, ++from) {
      if (names_[at] == "**") {
        for (std::size_t next = from; next <= path.size(); ++next) {
          if (matches_from(at + 1, path, next)) return true;
        }
        return false;
      }
      if (from >= path.size() || ::fnmatch(names_[at].c_str(), path[from].c_str(), 0) != 0) {
        return false;
      }
    }
    return from == path.size();
  }

  std::vector<std::string> names_;
};

// The patterns with {stdlib} and {site} filled in.
std::vector<Pattern> expand(const std::vector<std::string>& patterns,
                            const RuleDirectories& directories) {
  constexpr std::string_view kStdlib = "{stdlib}";
  constexpr std::string_view kSite = "{site}";
  std::vector<Pattern> result;
  for (const std::string& pattern : patterns) {
    if (pattern.starts_with(kStdlib)) {
      result.emplace_back(directories.stdlib + pattern.substr(kStdlib.size()));
    } else if (pattern.starts_with(kSite)) {
      for (const std::string& site : directories.sites) {
        result.emplace_back(site + pattern.substr(kSite.size()));
      }
    } else {
      result.emplace_back(pattern);
    }
  }
  return result;
}

bool any_matches(const std::vector<Pattern>& patterns, const std::vector<std::string>& path) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const Pattern& pattern) { return pattern.matches(path); });
}

}  // namespace

RuleTable parse_rules(std::string_view text, std::string_view source) {
  RuleTable table;
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = trim(text.substr(begin, end - begin));
    begin = end + 1;
    ++number;
    const auto fail = [&](std::string_view why) {
      return Error(ExitCode::kUsage, "cannot use the rules in " + quote(source) + ": line " +
                                         std::to_string(number) + ": " + std::string(why));
    };
    if (line.empty() || line.starts_with('#')) continue;
    if (line.starts_with('!')) {
      table.keep.emplace_back(trim(line.substr(1)));
    } else if (line.starts_with('[') && line.find(']') != std::string_view::npos &&
               !line.ends_with('/')) {
      const std::size_t close = line.find(']');
      const std::string_view name = trim(line.substr(1, close - 1));
      if (name.empty()) throw fail("a rule without a name");
      table.rules.push_back({std::string(name), std::string(trim(line.substr(close + 1))), {}});
    } else if (line.starts_with('/') || line.find("..") != std::string_view::npos) {
      throw fail("a pattern is relative to the image's root, without '..'");
    } else if (table.rules.empty()) {
      throw fail("a pattern before the first [NAME]");
    } else {
      table.rules.back().patterns.emplace_back(line);
    }
  }
  return table;
}

void merge_rules(RuleTable& table, RuleTable more) {
  for (StripRule& rule : more.rules) {
    const auto known = std::find_if(table.rules.begin(), table.rules.end(),
                                    [&](const StripRule& r) { return r.name == rule.name; });
    if (known == table.rules.end()) {
      table.rules.push_back(std::move(rule));
    } else {
      known->patterns.insert(known->patterns.end(), rule.patterns.begin(), rule.patterns.end());
    }
  }
  table.keep.insert(table.keep.end(), more.keep.begin(), more.keep.end());
}

void add_results(std::vector<RuleResult>& results, const std::vector<RuleResult>& more) {
  for (const RuleResult& result : more) {
    const auto known = std::find_if(results.begin(), results.end(),
                                    [&](const RuleResult& r) { return r.name == result.name; });
    if (known == results.end()) continue;
    known->files += result.files;
    known->bytes += result.bytes;
  }
}

bool matches(std::string_view pattern, std::string_view path) {
  return Pattern(pattern).matches(split(path));
}

std::vector<RuleResult> apply_rules(const RuleTable& table, const RuleDirectories& known,
                                    const fs::path& tree) {
  std::vector<fs::path> files;
  std::vector<fs::path> directories;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(tree)) {
    const bool directory = entry.is_directory() && !entry.is_symlink();
    (directory ? directories : files).push_back(entry.path());
  }
  std::vector<std::vector<Pattern>> patterns;
  std::vector<RuleResult> results;
  for (const StripRule& rule : table.rules) {
    patterns.push_back(expand(rule.patterns, known));
    results.push_back({rule.name, rule.why});
  }
  const std::vector<Pattern> keep = expand(table.keep, known);
  for (const fs::path& file : files) {
    const std::vector<std::string> names = split(file.lexically_relative(tree).native());
    const auto rule = std::find_if(patterns.begin(), patterns.end(), [&](const auto& candidates) {
      return any_matches(candidates, names);
    });
    if (rule == patterns.end() || any_matches(keep, names)) continue;
    RuleResult& result = results[static_cast<std::size_t>(rule - patterns.begin())];
    if (!fs::is_symlink(file)) result.bytes += fs::file_size(file);
    ++result.files;
    fs::remove(file);
  }
  // Deepest first, so that a directory of empty directories goes too. Only directories that a rule
  // emptied: an empty directory that a package brings may have a meaning.
  std::sort(directories.rbegin(), directories.rend());
  for (const fs::path& directory : directories) {
    const fs::path inside = directory / "x";
    const std::vector<std::string> names = split(inside.lexically_relative(tree).native());
    const bool named = std::any_of(patterns.begin(), patterns.end(), [&](const auto& candidates) {
      return any_matches(candidates, names);
    });
    if (named && fs::is_empty(directory)) fs::remove(directory);
  }
  return results;
}

LeftOut copy_by_rules(const RuleTable& table, const fs::path& from, const fs::path& to,
                      const fs::path& except) {
  LeftOut left_out;
  std::vector<std::vector<Pattern>> patterns;
  for (const StripRule& rule : table.rules) {
    patterns.push_back(expand(rule.patterns, {}));
    left_out.results.push_back({rule.name, rule.why});
  }
  const std::vector<Pattern> keep = expand(table.keep, {});
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(from)) {
    const bool wanted = entry.is_symlink() || entry.is_regular_file();
    if (wanted && entry.path() != except) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (!to.empty()) fs::create_directory(to);
  for (const fs::path& file : files) {
    const fs::path path = file.lexically_relative(from);
    const std::vector<std::string> names = split(path.native());
    const auto rule = std::find_if(patterns.begin(), patterns.end(), [&](const auto& candidates) {
      return any_matches(candidates, names);
    });
    if (rule != patterns.end() && !any_matches(keep, names)) {
      RuleResult& result = left_out.results[static_cast<std::size_t>(rule - patterns.begin())];
      ++result.files;
      if (!fs::is_symlink(file)) result.bytes += fs::file_size(file);
      left_out.files.emplace_back(path.native(), result.name);
    } else if (!to.empty()) {
      fs::create_directories((to / path).parent_path());
      fs::copy(file, to / path, fs::copy_options::copy_symlinks);
      if (!fs::is_symlink(file)) fs::last_write_time(to / path, fs::last_write_time(file));
    }
  }
  return left_out;
}

}  // namespace pyram::builder
