#include "image-builder/images/outdated.h"

#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "fusefs/image/image.h"
#include "image-builder/elf/architecture.h"
#include "image-builder/output/manifest.h"
#include "image-builder/scratch_job.h"
#include "image-builder/sources/source.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

struct Contents {
  DebianRequest request;
  std::vector<Package> packages;
  std::size_t others = 0;  // Packages that are not Debian's.
};

// "amd64" of "…_amd64.deb".
std::string architecture_in(const std::string& url) {
  const std::size_t end = url.rfind(".deb");
  const std::size_t begin = url.rfind('_');
  if (end == std::string::npos || begin == std::string::npos || begin > end) return {};
  return url.substr(begin + 1, end - begin - 1);
}

Contents contents_of(const OutdatedOptions& options) {
  const auto image = Image::open(options.image);
  const std::string& name = options.image.native();
  const json manifest = parse_manifest(read_manifest(*image), name, ExitCode::kBadImage);
  return read_or_refuse(name, ExitCode::kBadImage, [&] {
    Contents contents;
    constexpr std::string_view kDebian = "debian:";
    const auto source = manifest.at("source").get<std::string>();
    if (!source.starts_with(kDebian)) {
      throw Error(ExitCode::kBadImage, "cannot compare " + quote(name) +
                                           " with Debian: it was made of " + quote(source));
    }
    contents.request.suite = source.substr(kDebian.size());
    for (const json& package : manifest.at("packages")) {
      if (package.at("kind") != "deb") {
        ++contents.others;
        continue;
      }
      contents.packages.push_back({.name = package.at("name").get<std::string>(),
                                   .version = package.at("version").get<std::string>(),
                                   .kind = "deb",
                                   .source = package.at("source").get<std::string>(),
                                   .sha256 = {},
                                   .licences = {}});
      const std::string architecture = architecture_in(contents.packages.back().source);
      if (!architecture.empty() && architecture != "all") {
        contents.request.architecture = architecture;
      }
    }
    // The machine's own shares the cache with builds.
    if (contents.request.architecture == own_architecture().debian) {
      contents.request.architecture.clear();
    }
    contents.request.mirror = options.mirror;
    if (!options.cache.empty()) contents.request.cache = fs::absolute(options.cache) / "debian";
    return contents;
  });
}

std::string as_text(const OutdatedOptions& options, const std::vector<NewerPackage>& newer,
                    const Contents& contents) {
  std::string text;
  std::size_t security = 0;
  for (const NewerPackage& package : newer) {
    text += escape(package.name) + " " + escape(package.version) + " -> " + escape(package.newer) +
            (package.security ? "  (security)" : "") + "\n";
    security += package.security ? 1 : 0;
  }
  if (options.quiet && newer.empty()) return {};
  text += escape(options.image.native()) + ": " + std::to_string(newer.size()) + " of " +
          std::to_string(contents.packages.size()) + " Debian packages are outdated";
  if (!newer.empty()) text += ", " + std::to_string(security) + " of them by security updates";
  text += "\n";
  if (contents.others > 0) {
    text +=
        std::to_string(contents.others) + " packages that are not Debian's were not looked at\n";
  }
  if (!newer.empty()) text += "Build the image again to have them.\n";
  return text;
}

std::string as_json(const std::vector<NewerPackage>& newer) {
  json all = json::array();
  for (const NewerPackage& package : newer) {
    all.push_back({{"name", package.name},
                   {"version", package.version},
                   {"newer", package.newer},
                   {"security", package.security}});
  }
  return all.dump(1) + "\n";
}

}  // namespace

int list_outdated(const OutdatedOptions& options) {
  const Contents contents = contents_of(options);
  const char* const variable = std::getenv("TMPDIR");
  const fs::path parent = variable != nullptr && *variable == '/' ? variable : "/tmp";
  return run_scratch_job(parent, parent / "pyram-outdated", [&](const Scratch& scratch) {
    const std::vector<NewerPackage> newer =
        newer_packages(contents.request, contents.packages, scratch.directory);
    write_full(STDOUT_FILENO, options.json ? as_json(newer) : as_text(options, newer, contents),
               "standard output");
    return static_cast<int>(newer.empty() ? ExitCode::kOk : ExitCode::kOutdated);
  });
}

}  // namespace pyram::builder
