#include "registry/artifact.h"

#include "image-builder/digest.h"
#include "support/error.h"
#include "support/image_reference.h"

namespace pyram::registry {
namespace {

using nlohmann::json;

json formatted(const Descriptor& descriptor) {
  json result = {{"mediaType", descriptor.media_type},
                 {"digest", descriptor.digest},
                 {"size", descriptor.size}};
  if (!descriptor.artifact_type.empty()) result["artifactType"] = descriptor.artifact_type;
  if (!descriptor.annotations.empty()) result["annotations"] = descriptor.annotations;
  if (!descriptor.architecture.empty()) {
    result["platform"] = {{"architecture", descriptor.architecture}, {"os", "linux"}};
  }
  return result;
}

Error bad_manifest(const std::string& name, const std::string& why) {
  return {ExitCode::kBadSource, "cannot use the manifest of " + quote(name) + ": " + escape(why)};
}

// A text member of an object; empty where there is none, or of another kind.
std::string text_in(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

json parse_object(std::string_view text, const std::string& name) {
  json result = json::parse(text, nullptr, false);
  if (!result.is_object()) throw bad_manifest(name, "it is no JSON object");
  return result;
}

Annotations annotations_in(const json& object) {
  Annotations result;
  const auto found = object.find("annotations");
  if (found == object.end() || !found->is_object()) return result;
  for (const auto& [key, value] : found->items()) {
    if (value.is_string()) result[key] = value.get<std::string>();
  }
  return result;
}

Descriptor parse_descriptor(const json& object, const std::string& name) {
  if (!object.is_object()) throw bad_manifest(name, "a descriptor in it is no object");
  Descriptor result;
  result.media_type = text_in(object, "mediaType");
  result.digest = text_in(object, "digest");
  result.artifact_type = text_in(object, "artifactType");
  result.annotations = annotations_in(object);
  if (!is_digest(result.digest)) throw bad_manifest(name, "a digest in it is not of SHA-256");
  const auto size = object.find("size");
  if (size == object.end() || !size->is_number_unsigned() ||
      size->get<std::uint64_t>() > std::uint64_t{1} << 50) {
    throw bad_manifest(name, "a size in it makes no sense");
  }
  result.size = size->get<std::uint64_t>();
  if (const auto platform = object.find("platform");
      platform != object.end() && platform->is_object()) {
    result.architecture = text_in(*platform, "architecture");
  }
  return result;
}

std::vector<Descriptor> descriptors_in(const json& object, const char* member,
                                       const std::string& name) {
  std::vector<Descriptor> result;
  const auto found = object.find(member);
  if (found == object.end() || !found->is_array()) {
    throw bad_manifest(name, std::string("it has no ") + member);
  }
  for (const json& entry : *found) result.push_back(parse_descriptor(entry, name));
  return result;
}

}  // namespace

std::string format_artifact(const Artifact& artifact) {
  json result = {{"schemaVersion", 2},
                 {"mediaType", kManifestType},
                 {"artifactType", artifact.type},
                 {"config", formatted(describe(kEmptyBlob, kEmptyType))},
                 {"layers", json::array()}};
  for (const Descriptor& layer : artifact.layers) result["layers"].push_back(formatted(layer));
  if (artifact.subject) result["subject"] = formatted(*artifact.subject);
  if (!artifact.annotations.empty()) result["annotations"] = artifact.annotations;
  return result.dump(2) + "\n";
}

std::string format_index(const std::vector<Descriptor>& entries, const Annotations& annotations) {
  json result = {{"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", json::array()}};
  for (const Descriptor& entry : entries) result["manifests"].push_back(formatted(entry));
  if (!annotations.empty()) result["annotations"] = annotations;
  return result.dump(2) + "\n";
}

bool is_index(std::string_view text, const std::string& name) {
  return parse_object(text, name).contains("manifests");
}

Artifact parse_artifact(std::string_view text, const std::string& name) {
  const json object = parse_object(text, name);
  Artifact result;
  result.type = text_in(object, "artifactType");
  result.layers = descriptors_in(object, "layers", name);
  result.annotations = annotations_in(object);
  if (const auto subject = object.find("subject"); subject != object.end()) {
    result.subject = parse_descriptor(*subject, name);
  }
  return result;
}

std::vector<Descriptor> parse_index(std::string_view text, const std::string& name) {
  return descriptors_in(parse_object(text, name), "manifests", name);
}

Descriptor describe(std::string_view text, std::string media_type) {
  return {.media_type = std::move(media_type),
          .digest = "sha256:" + builder::sha256_of_text(text),
          .size = text.size()};
}

}  // namespace pyram::registry
