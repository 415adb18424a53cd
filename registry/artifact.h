// What an image is in a registry: an OCI artifact. docs/registry.md has its form. Everything that
// is read here came from a registry: nothing in it is trusted.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pyram::registry {

inline constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
inline constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
inline constexpr char kEmptyType[] = "application/vnd.oci.empty.v1+json";
inline constexpr char kEmptyBlob[] = "{}";

// What the artifact is, and its one layer.
inline constexpr char kImageType[] = "application/vnd.pyram.image.v1";
inline constexpr char kLayerType[] = "application/vnd.pyram.image.v1.squashfs";
// What refers to it: the image's own manifest, its SBOM, its signature, its table of blocks.
inline constexpr char kContentsType[] = "application/vnd.pyram.manifest.v1+json";
inline constexpr char kSbomType[] = "application/spdx+json";
inline constexpr char kSignatureType[] = "application/vnd.pyram.signature.v1";
inline constexpr char kBlocksType[] = "application/vnd.pyram.blocks.v1";

// Annotations of our own.
inline constexpr char kImageDigest[] = "org.pyram.image.digest";  // The Merkle tree's.
inline constexpr char kSigner[] = "org.pyram.image.signed-by";    // A hint.
inline constexpr char kArchitecture[] = "org.pyram.image.architecture";

using Annotations = std::map<std::string, std::string>;

struct Descriptor {
  std::string media_type;
  std::string digest;  // "sha256:" and 64 digits.
  std::uint64_t size = 0;
  std::string artifact_type{};
  std::string architecture{};  // Of an index's entry; may be empty.
  Annotations annotations{};
};

// The manifest of an artifact. `subject`: what it refers to.
struct Artifact {
  std::string type;
  std::vector<Descriptor> layers;
  std::optional<Descriptor> subject{};
  Annotations annotations{};
};

[[nodiscard]] std::string format_artifact(const Artifact& artifact);
[[nodiscard]] std::string format_index(const std::vector<Descriptor>& entries,
                                       const Annotations& annotations);

// Of a text that came as a manifest or as an index; `name` says which, for messages. Throw Error
// (kBadSource) for what is none.
[[nodiscard]] bool is_index(std::string_view text, const std::string& name);
[[nodiscard]] Artifact parse_artifact(std::string_view text, const std::string& name);
[[nodiscard]] std::vector<Descriptor> parse_index(std::string_view text, const std::string& name);

// The descriptor of a text of that type.
[[nodiscard]] Descriptor describe(std::string_view text, std::string media_type);

}  // namespace pyram::registry
