#include "registry/push.h"

#include <fcntl.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "fusefs/image/image.h"
#include "fusefs/image/merkle_tree.h"
#include "image-builder/digest.h"
#include "image-builder/output/integrity.h"
#include "image-builder/progress.h"
#include "registry/block_table.h"
#include "registry/registry.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/io.h"
#include "support/time_text.h"
#include "support/unique_fd.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr std::uint64_t kLongestFile = std::uint64_t{64} << 20;  // Of what an image says of itself.

// As OCI calls it, from what the image's interpreter says ("linux-x86_64").
std::string architecture_of(const std::string& platform) {
  if (platform.ends_with("x86_64")) return "amd64";
  if (platform.ends_with("aarch64")) return "arm64";
  return {};
}

std::optional<std::string> file_in(const Image& image, const char* path) {
  const auto found = find_path(image, path);
  if (!found) return std::nullopt;
  return read_image_file(image, *found, kLongestFile);
}

// An image that is whole, and what is said of it.
struct Facts {
  fs::path path;
  Descriptor layer;
  Trailer trailer;
  std::optional<std::string> contents;
  std::optional<std::string> sbom;
  std::string architecture;  // Empty for an image that says nothing of itself.
  Annotations annotations;
};

Facts look_at(const std::string& name) {
  Facts facts;
  facts.path = name;
  (void)builder::verify_image(name, {});
  facts.trailer = builder::read_trailer(name).value();
  const auto image = Image::open(name);
  facts.contents = file_in(*image, layout::kManifest);
  facts.sbom = file_in(*image, layout::kSbom);
  const std::string title = facts.path.filename().native();
  facts.layer = {.media_type = kLayerType,
                 .digest = "sha256:" + builder::sha256_of_file(name),
                 .size = fs::file_size(name),
                 .annotations = {{"org.opencontainers.image.title", title}}};
  facts.annotations = {{"org.opencontainers.image.title", title},
                       {kImageDigest, builder::digest_text(facts.trailer.digest)}};
  if (facts.trailer.signature) {
    facts.annotations[kSigner] = builder::key_text(*facts.trailer.signature);
  }
  if (!facts.contents) return facts;
  try {
    const json contents = json::parse(*facts.contents);
    facts.architecture = architecture_of(contents.at("python").at("platform"));
    facts.annotations["org.opencontainers.image.created"] = iso_time(contents.at("time"), "");
  } catch (const json::exception&) {
    throw Error(ExitCode::kBadImage, "cannot push " + quote(name) + ": its " +
                                         quote(layout::kManifest) +
                                         " is not of pyram-image's form");
  }
  if (!facts.architecture.empty()) facts.annotations[kArchitecture] = facts.architecture;
  return facts;
}

void push_about(Registry& registry, const Descriptor& subject, const char* type,
                std::string_view bytes) {
  const Descriptor layer = describe(bytes, type);
  registry.push(layer, bytes);
  registry.push_referrer({.type = type, .layers = {layer}, .subject = subject});
}

// The image, and what refers to it. Returns the manifest's text.
std::string push_one(Registry& registry, const Facts& facts, builder::Progress& progress) {
  const UniqueFd file(::open(facts.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) {
    throw system_error(ExitCode::kBadImage, errno, "open " + quote(facts.path.native()));
  }
  progress.phase("pushing " + facts.path.filename().native());
  registry.push(facts.layer, file.get(), [&](double done) { progress.step(done); });
  registry.push(describe(kEmptyBlob, kEmptyType), kEmptyBlob);
  const std::string text = format_artifact(
      {.type = kImageType, .layers = {facts.layer}, .annotations = facts.annotations});
  const Descriptor subject = describe(text, kManifestType);
  registry.push_manifest(subject.digest, text, kManifestType);
  progress.phase("pushing what is known about it");
  if (facts.contents) push_about(registry, subject, kContentsType, *facts.contents);
  if (facts.sbom) push_about(registry, subject, kSbomType, *facts.sbom);
  push_about(registry, subject, kBlocksType, format_block_table(block_table_of(facts.path)));
  if (facts.trailer.signature) {
    const auto header = format_trailer(facts.trailer);
    push_about(registry, subject, kSignatureType,
               {reinterpret_cast<const char*>(header.data()), header.size()});
  }
  return text;
}

void check_architectures(const std::vector<Facts>& all) {
  std::set<std::string> seen;
  for (const Facts& facts : all) {
    if (facts.architecture.empty()) {
      throw Error(ExitCode::kBadImage,
                  "cannot push several images under one name: " + quote(facts.path.native()) +
                      " does not say what processor it is for");
    }
    if (!seen.insert(facts.architecture).second) {
      throw Error(ExitCode::kUsage, "cannot push several images for " + facts.architecture +
                                        " under one name: give one for each processor");
    }
  }
}

}  // namespace

std::string push_images(const PushOptions& options) {
  const auto reference = parse_image_reference(options.reference);
  if (!reference || !reference->digest.empty()) {
    throw Error(ExitCode::kUsage, "cannot push to " + quote(options.reference) +
                                      ": the last word has to be HOST/REPOSITORY:TAG, such as "
                                      "registry.example.org/team/site:1");
  }
  builder::Progress progress(2 * options.images.size(), options.quiet);
  std::vector<Facts> all;
  all.reserve(options.images.size());
  for (const std::string& image : options.images) all.push_back(look_at(image));
  if (all.size() > 1) check_architectures(all);
  Registry registry(*reference, options.session, Registry::Access::kPush);
  std::string text;
  std::string type = kManifestType;
  std::vector<Descriptor> entries;
  for (const Facts& facts : all) {
    text = push_one(registry, facts, progress);
    Descriptor entry = describe(text, kManifestType);
    entry.artifact_type = kImageType;
    entry.architecture = facts.architecture;
    entries.push_back(entry);
  }
  if (all.size() > 1) {
    text = format_index(entries, {});
    type = kIndexType;
  }
  registry.push_manifest(std::string(reference->tag), text, type);
  progress.finish();
  return options.reference + ": " + describe(text, type).digest + "\n";
}

std::string write_block_table(const std::string& image, const fs::path& output) {
  const BlockTable table = block_table_of(image);
  const std::string text = format_block_table(table);
  write_file(output, text);
  return output.native() + ": " + std::to_string(table.blocks.size()) + " blocks of " + image +
         ", in " + std::to_string(text.size()) + " bytes\n";
}

}  // namespace pyram::registry
