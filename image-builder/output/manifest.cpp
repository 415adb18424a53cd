#include "image-builder/output/manifest.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "image-builder/digest.h"
#include "image-builder/elf/improve.h"
#include "image-builder/tree/licences.h"
#include "support/image_layout.h"

namespace pyram::builder {
namespace fs = std::filesystem;

nlohmann::json file_entry(const fs::path& file) {
  return {{"size", fs::file_size(file)}, {"digest", sha256_of_file(file).substr(0, 8)}};
}

nlohmann::json rule_entry(const RuleResult& rule) {
  return {{"rule", rule.name}, {"why", rule.why}, {"files", rule.files}, {"bytes", rule.bytes}};
}

void add_files(nlohmann::json& files, const fs::path& tree) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(tree)) {
    const std::string path = entry.path().lexically_relative(tree);
    if (entry.is_symlink()) {
      files[path] = {{"link", fs::read_symlink(entry.path()).native()}};
    } else if (entry.is_regular_file() && !path.starts_with(layout::kMetadata)) {
      files[path] = file_entry(entry.path());
    }
  }
}

nlohmann::json make_manifest(const ManifestParts& parts) {
  const ImageTree& image = parts.image;
  nlohmann::json result;
  result["format"] = 1;
  result["pyram"] = PYRAM_VERSION;
  result["time"] = parts.time;
  result["source"] = parts.source.description;
  result["python"] = {{"implementation", image.facts.implementation},
                      {"python", image.facts.python_version},
                      {"pypy", image.facts.pypy_version},
                      {"version", image.facts.version_text},
                      {"cache_tag", image.facts.cache_tag},
                      {"soabi", image.facts.soabi},
                      {"platform", image.facts.platform},
                      {"stdlib", image.directories.stdlib},
                      {"sites", image.directories.sites}};
  result["libraries"] = image.libraries;
  result["addresses"] = nlohmann::json::object();
  for (const auto& [path, address] : fixed_addresses(image.tree)) {
    char text[sizeof "0x" + 16];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(address));
    result["addresses"][path] = text;
  }
  result["modules_compiled"] = parts.bytecode.compiled;
  result["not_compiled"] = parts.bytecode.not_python;

  result["packages"] = nlohmann::json::array();
  const std::set<std::string> used = used_packages(image);
  for (const Package& package : parts.source.packages) {
    if (package.kind == "deb" && !used.contains(package.name)) continue;
    result["packages"].push_back({{"name", package.name},
                                  {"version", package.version},
                                  {"kind", package.kind},
                                  {"source", package.source},
                                  {"sha256", package.sha256},
                                  {"licences", package.licences},
                                  {"licence_files", licence_files(image, package.name)}});
  }
  result["stripped"] = nlohmann::json::array();
  for (const RuleResult& rule : parts.rules) result["stripped"].push_back(rule_entry(rule));
  nlohmann::json& files = result["files"] = nlohmann::json::object();
  add_files(files, image.tree);
  for (auto& [path, entry] : files.items()) {
    if (entry.contains("link")) continue;
    if (const auto owner = image.owners.find(path); owner != image.owners.end()) {
      entry["package"] = owner->second;
    }
  }
  return result;
}

Error bad_manifest(const std::string& name, ExitCode code, const std::string& why) {
  return Error(code, "cannot use the manifest of " + quote(name) + ": " + why);
}

nlohmann::json parse_manifest(std::string_view text, const std::string& name, ExitCode code) {
  using nlohmann::json;
  // What writes a value calls itself for what is in it: a text of brackets would exhaust the stack.
  constexpr int kDeepest = 16;
  const auto check = [&](int depth, json::parse_event_t, const json& value) {
    if (depth > kDeepest) throw bad_manifest(name, code, "it is nested too deep");
    // Counts, sizes and times are all that there is; readers convert them.
    if (value.is_number_float()) {
      throw bad_manifest(name, code, "it has a number that is not whole");
    }
    return true;
  };
  return read_or_refuse(name, code, [&] {
    json manifest = json::parse(text, check);
    const json& files = manifest.at("files");
    const bool files_known = files.is_object() && std::ranges::all_of(files, [](const json& f) {
                               return f.is_object();
                             });
    if (!files_known || !manifest.at("packages").is_array()) {
      throw bad_manifest(name, code, "it is not ours");
    }
    return manifest;
  });
}

std::string read_manifest(const Image& image) {
  constexpr std::uint64_t kLargest = std::uint64_t{64} << 20;
  const auto found = find_path(image, layout::kManifest);
  if (!found) {
    throw Error(ExitCode::kBadImage, "cannot use the image " + image.name() + ": it has no " +
                                         quote(layout::kManifest) +
                                         "; name an image that pyram-image made");
  }
  return read_image_file(image, *found, kLargest);
}

}  // namespace pyram::builder
