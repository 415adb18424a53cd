#include "tests/fuzz/manifest.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "image-builder/output/info.h"
#include "image-builder/output/manifest.h"
#include "image-builder/sources/source.h"
#include "support/error.h"

namespace pyram::test {
namespace {

using nlohmann::json;

// Runs a reader. Returns whether it could.
template <typename Action>
bool attempt(Action&& action) {
  try {
    action();
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

bool check_manifest(std::string_view text) {
  static_cast<void>(attempt([&] {
    builder::SourceTree source;
    source.root = "/";
    source.prefix = "/image";
    builder::use_manifest(text, "the image", source);
  }));
  json manifest;
  if (!attempt(
          [&] { manifest = builder::parse_manifest(text, "the image", ExitCode::kBadImage); })) {
    return false;
  }
  // What is known of the image itself.
  manifest["image"] = {
      {"size", 1},
      {"compressor", "zstd"},
      {"block_size", 131072},
      {"parts", {{{"part", "sources"}, {"files", 1}, {"size", 1}, {"stored", 1}}}}};
  // It can be written, always, and read again.
  const std::string written = builder::describe_manifest("the image", manifest, true);
  if (json::parse(written) != manifest) std::abort();
  json none = {{"image", {{"size", 0}}}, {"files", json::object()}, {"packages", json::array()}};
  static_cast<void>(attempt([&] {
    static_cast<void>(builder::compare_manifests({"the image", manifest}, {"none", none}));
    if (!builder::compare_manifests({"the image", manifest}, {"the image", manifest}).empty()) {
      std::abort();
    }
  }));
  return attempt([&] {
    // Nothing in it makes a terminal do anything.
    for (const char c : builder::describe_manifest("the image", manifest, false)) {
      if (c != '\n' && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)) std::abort();
    }
  });
}

}  // namespace pyram::test
