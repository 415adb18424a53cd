// The `dir:` source.
#include <nlohmann/json.hpp>

#include "image-builder/output/manifest.h"
#include "image-builder/sources/source.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/io.h"

namespace pyram::builder {
namespace fs = std::filesystem;

// An unpacked image says itself what it is made of.
void use_manifest(std::string_view text, const std::string& name, SourceTree& source) {
  const nlohmann::json manifest = parse_manifest(text, name, ExitCode::kBadSource);
  read_or_refuse(name, ExitCode::kBadSource, [&] {
    for (const nlohmann::json& package : manifest.at("packages")) {
      source.packages.push_back({package.at("name"), package.at("version"), package.at("kind"),
                                 package.at("source"), package.at("sha256"),
                                 package.at("licences")});
    }
    for (const auto& [path, entry] : manifest.at("files").items()) {
      if (!entry.contains("package")) continue;
      source.owners[(source.prefix / path).lexically_relative(source.root)] = entry.at("package");
    }
  });
}

SourceTree use_directory(const fs::path& directory) {
  std::error_code missing;
  const fs::path prefix = fs::canonical(directory, missing);
  if (missing || !fs::is_directory(prefix)) {
    throw Error(ExitCode::kBadSource, "there is no directory " + quote(directory.native()) +
                                          "; name one that holds bin/pypy3 and lib/");
  }
  SourceTree source;
  source.root = "/";
  source.prefix = prefix;
  source.system_libraries = true;
  // Not the whole path, which would tell about the build machine.
  source.description = "dir:" + prefix.filename().native();
  for (const char* name : {layout::kLibraries, "lib", "lib64"}) {
    if (fs::is_directory(prefix / name)) source.library_directories.push_back(prefix / name);
  }
  const fs::path manifest = prefix / layout::kManifest;
  source.is_image = fs::is_regular_file(manifest);
  if (source.is_image) {
    use_manifest(read_file(manifest), manifest.native(), source);
  } else {
    // The version is what the interpreter says, once it runs.
    source.packages.push_back({"pypy", "", "pypy", prefix.filename(), "", {"MIT"}});
  }
  return source;
}

}  // namespace pyram::builder
