#include "image-builder/output/sbom.h"

#include <cctype>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "fusefs/image/sha256.h"
#include "image-builder/digest.h"
#include "support/time_text.h"

namespace pyram::builder {
namespace {

using nlohmann::json;

constexpr char kNothingSaid[] = "NOASSERTION";
constexpr char kImage[] = "SPDXRef-Image";
constexpr char kProject[] = "SPDXRef-Project";

bool is_plain(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// SPDX's identifiers hold letters, digits, '.' and '-'. Others are written as their number, so that
// two names stay two.
std::string identifier(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result;
  for (const char c : text) {
    if (is_plain(c) || c == '.' || c == '-') {
      result.push_back(c);
    } else {
      const auto value = static_cast<unsigned char>(c);
      result += {'.', 'x', kDigits[value >> 4], kDigits[value & 0xf]};
    }
  }
  return result;
}

// As a package URL has it.
std::string percent_encoded(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    if (is_plain(c) || c == '.' || c == '-' || c == '_' || c == '~') {
      result.push_back(c);
    } else {
      const auto value = static_cast<unsigned char>(c);
      result += {'%', kDigits[value >> 4], kDigits[value & 0xf]};
    }
  }
  return result;
}

// In the form of a UUID, from what the document is of.
std::string document_name(const json& manifest) {
  const std::string text = manifest.at("packages").dump() + manifest.at("files").dump();
  const Sha256 hash = sha256(std::as_bytes(std::span(text)));
  std::string result = hexadecimal(std::span(hash).first(16));
  for (const std::size_t place : {20U, 16U, 12U, 8U}) result.insert(place, 1, '-');
  return result;
}

std::string package_url(const json& package) {
  const std::string name = package.at("name");
  const std::string version = percent_encoded(package.at("version").get<std::string>());
  if (package.at("kind") == "deb") return "pkg:deb/debian/" + percent_encoded(name) + "@" + version;
  if (package.at("kind") == "pypy") return "pkg:generic/pypy@" + version;
  std::string lower;
  for (const char c : name) {
    lower.push_back(c == '_' ? '-'
                             : static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return "pkg:pypi/" + percent_encoded(lower) + "@" + version;
}

// The short names are the packagers' own, not SPDX's: each becomes a licence of the document.
std::string licence_expression(const json& names, std::map<std::string, std::string>& licences) {
  std::string result;
  for (const std::string name : names) {
    const std::string id = "LicenseRef-" + identifier(name);
    licences[id] = name;
    result += (result.empty() ? "" : " AND ") + id;
  }
  return result.empty() ? kNothingSaid : result;
}

json described(const std::string& id, const std::string& name, const std::string& version) {
  return {{"SPDXID", id},
          {"name", name},
          {"versionInfo", version},
          {"downloadLocation", kNothingSaid},
          {"filesAnalyzed", false},
          {"licenseConcluded", kNothingSaid},
          {"licenseDeclared", kNothingSaid},
          {"copyrightText", kNothingSaid}};
}

// The code of an app, which no index of packages has. The code of its verification is that of the
// files in app/ but for their bytecode.
json described_project(const json& project) {
  const std::string version = project.at("version");
  json entry = described(kProject, project.at("name"), version);
  if (version.empty()) entry.erase("versionInfo");
  entry["filesAnalyzed"] = true;
  entry["packageVerificationCode"] = {{"packageVerificationCodeValue", project.at("verification")}};
  entry["comment"] = "The project's own files, in app/; their bytecode is not among them.";
  return entry;
}

}  // namespace

json make_sbom(const json& manifest) {
  const std::string unique = document_name(manifest);
  json document = {
      {"spdxVersion", "SPDX-2.3"},
      {"dataLicense", "CC0-1.0"},
      {"SPDXID", "SPDXRef-DOCUMENT"},
      {"name", "pyram-image-" + unique},
      {"documentNamespace", "https://spdx.org/spdxdocs/pyram-image-" + unique},
      {"creationInfo",
       {{"created", iso_time(manifest.at("time"), "1970-01-01T00:00:00Z")},
        {"creators", {"Tool: pyram-image-" + manifest.at("pyram").get<std::string>()}}}}};
  json packages = json::array();
  json relations = json::array();
  const auto relate = [&](const std::string& from, const char* how, const std::string& to) {
    relations.push_back(
        {{"spdxElementId", from}, {"relationshipType", how}, {"relatedSpdxElement", to}});
  };
  const json& python = manifest.at("python");
  packages.push_back(described(kImage, "pyram-image", python.at("pypy")));
  packages.back()["comment"] = "Made of " + manifest.at("source").get<std::string>();
  relate("SPDXRef-DOCUMENT", "DESCRIBES", kImage);
  if (manifest.contains("app") && manifest["app"].contains("project")) {
    packages.push_back(described_project(manifest["app"].at("project")));
    relate(kImage, "CONTAINS", kProject);
  }
  std::map<std::string, std::string> licences;
  for (const json& package : manifest.at("packages")) {
    const std::string name = package.at("name");
    const std::string id =
        "SPDXRef-" + identifier(package.at("kind").get<std::string>()) + "-" + identifier(name);
    json entry = described(id, name, package.at("version"));
    const std::string source = package.at("source");
    if (source.starts_with("http")) entry["downloadLocation"] = source;
    const std::string digest = package.at("sha256");
    if (!digest.empty()) {
      entry["checksums"] = {{{"algorithm", "SHA256"}, {"checksumValue", digest}}};
    }
    entry["licenseDeclared"] = licence_expression(package.at("licences"), licences);
    const json files = package.value("licence_files", json::array());
    std::string places;
    for (const std::string file : files) places += (places.empty() ? "" : ", ") + file;
    entry["licenseComments"] = files.empty() ? "The package brings no text of its licence."
                                             : "The text is in the image: " + places;
    entry["externalRefs"] = {{{"referenceCategory", "PACKAGE-MANAGER"},
                              {"referenceType", "purl"},
                              {"referenceLocator", package_url(package)}}};
    packages.push_back(std::move(entry));
    relate(kImage, "CONTAINS", id);
  }
  document["packages"] = std::move(packages);
  document["relationships"] = std::move(relations);
  if (!licences.empty()) {
    json& extracted = document["hasExtractedLicensingInfos"] = json::array();
    for (const auto& [id, name] : licences) {
      extracted.push_back({{"licenseId", id},
                           {"name", name},
                           {"extractedText",
                            "The text is in the image, in the files that the packages' comments "
                            "on their licences name."}});
    }
  }
  return document;
}

}  // namespace pyram::builder
