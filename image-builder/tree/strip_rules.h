// What is left out of an image: a table of rules that a person can read and extend.
// The format is described at the top of strip.rules.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyram::builder {

struct StripRule {
  std::string name;
  std::string why;
  std::vector<std::string> patterns;
};

struct RuleTable {
  std::vector<StripRule> rules;
  std::vector<std::string> keep;  // Patterns of what stays, whatever the rules say.
};

// What {stdlib} and {site} stand for: paths relative to the image's root.
struct RuleDirectories {
  std::string stdlib;
  std::vector<std::string> sites;
};

// What a rule did.
struct RuleResult {
  std::string name;
  std::string why;
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
};

// Adds what a second pass did to what a first one did. REQUIRES: each is of the same table, or of
// one that lacks some of its rules.
void add_results(std::vector<RuleResult>& results, const std::vector<RuleResult>& more);

// `source` names the table in messages. Throws Error (kUsage) on a line that makes no sense.
[[nodiscard]] RuleTable parse_rules(std::string_view text, std::string_view source);

// Adds the rules and keeps of `more` to `table`; a rule of a known name is extended.
void merge_rules(RuleTable& table, RuleTable more);

// Whether a path (relative, no leading slash) matches a pattern. A pattern that ends with '/'
// matches everything below the directories that it names.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view path);

// Removes what the rules name below `tree`, and directories that became empty. The results come in
// the order of the rules; a file that several name counts for the first.
std::vector<RuleResult> apply_rules(const RuleTable& table, const RuleDirectories& directories,
                                    const std::filesystem::path& tree);

// What a copy left out: the rules' results, and each file with its rule.
struct LeftOut {
  std::vector<RuleResult> results;
  std::vector<std::pair<std::string, std::string>> files;
};

// Copies a directory's files, links and directories but for what the rules name and for the file
// `except`; sockets and the like are left out as well. `to` is made, with the files' times; with an
// empty `to` nothing is copied. Throws Error (kBadSource) for what cannot be read.
[[nodiscard]] LeftOut copy_by_rules(const RuleTable& table, const std::filesystem::path& from,
                                    const std::filesystem::path& to,
                                    const std::filesystem::path& except);

}  // namespace pyram::builder
