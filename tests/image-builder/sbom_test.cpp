// The SPDX document, checked by rule and, where it can be had, by SPDX's own checker.
#include "image-builder/output/sbom.h"

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "support/error.h"
#include "support/io.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"

namespace fs = std::filesystem;
using namespace pyram::test;
using nlohmann::json;
using pyram::ExitCode;

namespace {

json example() {
  return {{"time", 1700000000},
          {"pyram", "0.1.0"},
          {"source", "debian:trixie"},
          {"python", {{"pypy", "7.3.19"}}},
          {"files", {{"a", {{"size", 1}, {"digest", "00000000"}}}}},
          {"packages",
           {{{"name", "libstdc++6"},
             {"version", "1:14.2-1+b1"},
             {"kind", "deb"},
             {"source", "http://deb.debian.org/debian/pool/x.deb"},
             {"sha256", std::string(64, 'a')},
             {"licences", {"GPL-3+ with exception", "Expat"}}},
            {{"name", "My_Package"},
             {"version", "1.0"},
             {"kind", "wheel"},
             {"source", "My_Package-1.0-py3-none-any.whl"},
             {"sha256", std::string(64, 'b')},
             {"licences", json::array()}}}}};
}

// What SPDX 2.3 demands of the fields that are used here.
void check_document(const json& document) {
  CHECK(document.at("spdxVersion") == "SPDX-2.3");
  CHECK(document.at("dataLicense") == "CC0-1.0");
  CHECK(document.at("SPDXID") == "SPDXRef-DOCUMENT");
  CHECK(std::regex_match(document.at("creationInfo").at("created").get<std::string>(),
                         std::regex("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ")));
  CHECK(document.at("creationInfo").at("creators").size() == 1);
  CHECK(document.at("documentNamespace").get<std::string>().starts_with("https://"));
  const std::regex id("SPDXRef-[A-Za-z0-9.-]+");
  std::set<std::string> known = {"SPDXRef-DOCUMENT"};
  std::set<std::string> licences;
  if (document.contains("hasExtractedLicensingInfos")) {
    for (const json& licence : document["hasExtractedLicensingInfos"]) {
      CHECK(licences.insert(licence.at("licenseId")).second);
      CHECK(std::regex_match(licence.at("licenseId").get<std::string>(),
                             std::regex("LicenseRef-[A-Za-z0-9.-]+")));
      CHECK_FALSE(licence.at("extractedText").get<std::string>().empty());
    }
  }
  for (const json& package : document.at("packages")) {
    const std::string name = package.at("SPDXID");
    INFO(name);
    CHECK(std::regex_match(name, id));
    CHECK(known.insert(name).second);
    CHECK_FALSE(package.at("name").get<std::string>().empty());
    CHECK(package.at("filesAnalyzed") == package.contains("packageVerificationCode"));
    CHECK(package.contains("downloadLocation"));
    const std::string declared = package.at("licenseDeclared");
    static const std::regex word("LicenseRef-[A-Za-z0-9.-]+");
    for (auto at = std::sregex_iterator(declared.begin(), declared.end(), word);
         at != std::sregex_iterator(); ++at) {
      CHECK(licences.contains(at->str()));
    }
    if (!package.contains("externalRefs")) continue;
    CHECK(std::regex_match(package["externalRefs"][0].at("referenceLocator").get<std::string>(),
                           std::regex("pkg:[a-z]+/[A-Za-z0-9./%_~-]+@[A-Za-z0-9.%_~-]+")));
  }
  for (const json& relation : document.at("relationships")) {
    CHECK(known.contains(relation.at("spdxElementId")));
    CHECK(known.contains(relation.at("relatedSpdxElement")));
  }
  CHECK(document["relationships"].size() == document["packages"].size());
}

}  // namespace

TEST_CASE("an image's SPDX document says what SPDX 2.3 demands, the same every time") {
  const json document = pyram::builder::make_sbom(example());
  check_document(document);
  CHECK(document == pyram::builder::make_sbom(example()));
  CHECK(document["packages"].size() == 3);
  CHECK(document["packages"][1]["externalRefs"][0]["referenceLocator"] ==
        "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2-1%2Bb1");
  CHECK(document["packages"][2]["externalRefs"][0]["referenceLocator"] ==
        "pkg:pypi/my-package@1.0");
  CHECK(document["packages"][2]["licenseDeclared"] == "NOASSERTION");
  json other = example();
  other["packages"][0]["version"] = "2";
  CHECK(pyram::builder::make_sbom(other)["documentNamespace"] != document["documentNamespace"]);
}

TEST_CASE("the default image's SPDX document is whole, and names every package") {
  const std::string image = default_image();
  const auto cat = [&](const std::string& path) {
    return pyram::run_or_throw({{"unsquashfs", "-cat", image, path}, {}, {}}, ExitCode::kFailed,
                               "read a file of the image");
  };
  const json document = json::parse(cat(".pyram/sbom.spdx.json"));
  const json manifest = json::parse(cat(".pyram/manifest.json"));
  check_document(document);
  CHECK(document["packages"].size() == manifest["packages"].size() + 1);
  for (const json& package : manifest["packages"]) {
    INFO(package["name"]);
    CHECK_FALSE(package["licences"].empty());
    CHECK_FALSE(package["licence_files"].empty());
    for (const std::string file : package["licence_files"]) {
      CHECK(manifest["files"].contains(file));
      CHECK(document.dump().find(file) != std::string::npos);
    }
  }
}

TEST_CASE("an app's SPDX document names its project") {
  json manifest = example();
  manifest["app"] = {
      {"project", {{"name", "My site"}, {"version", ""}, {"verification", std::string(40, 'c')}}}};
  json document = pyram::builder::make_sbom(manifest);
  check_document(document);
  CHECK(document["packages"].size() == 4);
  const json project = document["packages"][1];
  CHECK(project["name"] == "My site");
  CHECK_FALSE(project.contains("versionInfo"));
  CHECK(project["packageVerificationCode"]["packageVerificationCodeValue"] == std::string(40, 'c'));
  manifest["app"]["project"]["version"] = "1.2";
  document = pyram::builder::make_sbom(manifest);
  CHECK(document["packages"][1]["versionInfo"] == "1.2");
}

TEST_CASE("SPDX's own checker, from the package index, finds nothing") {
  const std::string image = default_image();
  json app = json::parse(pyram::run_or_throw(
      {{"unsquashfs", "-cat", image, ".pyram/manifest.json"}, {}, {}}, ExitCode::kFailed, "read"));
  app["app"] = {
      {"project", {{"name", "My site"}, {"version", "1"}, {"verification", std::string(40, 'c')}}}};
  const TemporaryDirectory directory;
  const fs::path tree = directory / "tree";
  pyram::run_or_throw(
      {{"unsquashfs", "-quiet", "-no-progress", "-dest", tree.native(), image}, {}, {}},
      ExitCode::kFailed, "unpack the image");
  pyram::write_file(directory / "image.spdx.json", pyram::builder::make_sbom(app).dump());
  const std::string python = tree / "bin/pypy3";
  const pyram::Outcome fetched = pyram::run({{python, "-m", "pip", "install", "--quiet", "--target",
                                              (directory / "tools").native(), "spdx-tools"},
                                             {},
                                             {}});
  if (!fetched.ok()) PYRAM_SKIP("spdx-tools cannot be had: " + fetched.last_line());
  const pyram::Outcome checked = pyram::run(
      {{python, "-c",
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from spdx_tools.spdx.parser.parse_anything import parse_file\n"
        "from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document\n"
        "for message in validate_full_spdx_document(parse_file(sys.argv[1])):\n"
        "    print(message.validation_message)\n",
        (directory / "tools").native(), (directory / "image.spdx.json").native()},
       {},
       {}});
  INFO(checked.errors);
  CHECK(checked.ok());
  CHECK(checked.output.empty());
}
