#include "deploy/app_image.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "fusefs/image/image.h"
#include "image-builder/elf/architecture.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output/manifest.h"
#include "support/error.h"
#include "support/time_text.h"

namespace pyram::deploy {
namespace fs = std::filesystem;
namespace {

void check_machine(const fs::path& image, const std::string& platform) {
  const std::string own(builder::own_architecture().machine);
  if (platform.ends_with("-" + own)) return;
  throw Error(ExitCode::kBadImage, "the image " + quote(image.native()) + " is for " +
                                       quote(platform) + ", and this machine is " + own +
                                       "; build it for this one (pyram-image app, here)");
}

}  // namespace

AppImage describe_app_image(const fs::path& image) {
  const auto trailer = builder::read_trailer(image);
  if (!trailer) {
    throw Error(ExitCode::kVerification,
                "the image " + quote(image.native()) +
                    " has no digest to check it by; pyram-image app makes images that have one");
  }
  const nlohmann::json manifest = builder::parse_manifest(
      builder::read_manifest(*Image::open(image)), image.native(), ExitCode::kBadImage);
  AppImage result;
  result.digest = builder::digest_text(trailer->digest);
  result.signature =
      trailer->signature ? "signed by " + builder::key_text(*trailer->signature) : "not signed";
  return builder::read_or_refuse(image.native(), ExitCode::kBadImage, [&] {
    check_machine(image, manifest.at("python").at("platform").get<std::string>());
    if (!manifest.contains("app") || manifest.at("app").value("kind", "script") == "script") {
      throw Error(ExitCode::kBadImage, "the image " + quote(image.native()) +
                                           " has no application to serve; pyram-image app makes "
                                           "one of a project that has");
    }
    const nlohmann::json& app = manifest.at("app");
    result.application = escape(app.at("application").get<std::string>());
    result.is_django = app.contains("settings");
    result.built = time_for_people(manifest.at("time").get<std::int64_t>());
    return result;
  });
}

AppImage check_app_image(const fs::path& image, const fs::path& trust) {
  const std::vector<fs::path> keys = builder::trusted_keys(trust);
  (void)builder::verify_image(image, keys);
  AppImage result = describe_app_image(image);
  if (keys.empty() && result.signature != "not signed") {
    result.signature +=
        ", which was not checked: " + std::string(builder::kTrustedKeys) + " has no key";
  }
  return result;
}

}  // namespace pyram::deploy
