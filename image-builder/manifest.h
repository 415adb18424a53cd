// .pyram/manifest.json: what an image holds and where it came from. docs/image-format.md has the
// fields.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "image-builder/bytecode.h"
#include "image-builder/layout.h"
#include "image-builder/source.h"
#include "image-builder/strip_rules.h"

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

}  // namespace pyram::builder
