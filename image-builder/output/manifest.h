// .pyram/manifest.json: what an image holds and where it came from. docs/image-format.md has the
// fields.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/image/image.h"
#include "image-builder/sources/source.h"
#include "image-builder/tree/bytecode.h"
#include "image-builder/tree/layout.h"
#include "image-builder/tree/strip_rules.h"
#include "support/error.h"

namespace pyram::builder {

struct ManifestParts {
  const SourceTree& source;
  const ImageTree& image;
  const std::vector<RuleResult>& rules;
  const BytecodeResult& bytecode;
  std::int64_t time;
};

// Packages of which nothing is in the image are not listed.
[[nodiscard]] nlohmann::json make_manifest(const ManifestParts& parts);

// What the manifest says of a regular file, but for its package.
[[nodiscard]] nlohmann::json file_entry(const std::filesystem::path& file);

// Adds the files and links of a tree to a manifest's "files", but for Pyram's own metadata: what is
// written after the manifest is not in it.
void add_files(nlohmann::json& files, const std::filesystem::path& tree);

// What the manifest says of a rule, in "stripped".
[[nodiscard]] nlohmann::json rule_entry(const RuleResult& rule);

// What is said of a manifest that can't be used: that of the image or file `name`.
[[nodiscard]] Error bad_manifest(const std::string& name, ExitCode code, const std::string& why);

// Runs what reads an image's or file's (`name`) manifest, of which only the outermost form is
// known. Throws Error (`code`) where it isn't what `read` expects.
template <typename Read>
auto read_or_refuse(const std::string& name, ExitCode code, const Read& read) {
  try {
    return read();
  } catch (const nlohmann::json::exception& error) {
    throw bad_manifest(name, code, error.what());
  }
}

// The manifest in `text`, which came from the image or file `name`: an object whose "files" is an
// object of objects and whose "packages" is an array. Whatever else it has may have any form, but
// its numbers are whole. Throws Error (`code`) for everything else.
[[nodiscard]] nlohmann::json parse_manifest(std::string_view text, const std::string& name,
                                            ExitCode code);

// The text of an image's manifest. Throws Error (kBadImage) where the image has none.
[[nodiscard]] std::string read_manifest(const Image& image);

}  // namespace pyram::builder
