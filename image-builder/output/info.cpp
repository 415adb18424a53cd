#include "image-builder/output/info.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "image-builder/output/integrity.h"
#include "image-builder/output/manifest.h"
#include "image-builder/output/weights.h"
#include "support/amounts.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/time_text.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

std::string joined(const json& texts) {
  std::string result;
  for (const json& text : texts) result += (result.empty() ? "" : ", ") + text.get<std::string>();
  return result;
}

// The manifest, safe for a terminal: the maker of an image chose every name in it.
json printable(const json& value) {
  if (value.is_string()) return escape(value.get<std::string>());
  if (!value.is_structured()) return value;
  json result = value.is_object() ? json::object() : json::array();
  for (const auto& [key, member] : value.items()) {
    if (value.is_object()) {
      result[escape(key)] = printable(member);
    } else {
      result.push_back(printable(member));
    }
  }
  return result;
}

std::string as_text(const std::string& image, const json& untrusted) {
  const json manifest = printable(untrusted);
  std::ostringstream text;
  const json& file = manifest.at("image");
  const json& python = manifest.at("python");
  std::uint64_t unpacked = 0;
  for (const json& entry : manifest.at("files")) unpacked += entry.value("size", std::uint64_t{0});
  text << fs::path(image).filename().native() << ": Python "
       << python.at("python").get<std::string>() << " on PyPy "
       << python.at("pypy").get<std::string>() << " (" << python.at("platform").get<std::string>()
       << ")\n"
       << "  file        " << megabytes(file.at("size")) << ", holds " << megabytes(unpacked)
       << " in " << manifest.at("files").size() << " files\n"
       << "  squashfs    " << file.at("compressor").get<std::string>() << ", blocks of "
       << file.at("block_size").get<std::uint64_t>() / 1024 << " KiB\n"
       << "  digest      " << file.value("digest", "none: it has no Merkle tree")
       << (file.contains("signed_by") ? ",\n              says that " +
                                            file.at("signed_by").get<std::string>() + " signed it"
                                      : "")
       << "\n"
       << "  source      " << manifest.at("source").get<std::string>() << ", "
       << time_for_people(manifest.at("time")) << "\n"
       << "  modules     " << manifest.at("modules_compiled") << " compiled\n"
       << "  made by     pyram-image " << manifest.at("pyram").get<std::string>() << "\n";
  text << "  parts                        in the image      unpacked   files\n";
  for (const json& part : file.at("parts")) {
    char line[160];
    std::snprintf(line, sizeof line, "    %-24s %12s  %12s  %6llu\n",
                  part.at("part").get<std::string>().c_str(), megabytes(part.at("stored")).c_str(),
                  part.at("files") == 0 ? "" : megabytes(part.at("size")).c_str(),
                  static_cast<unsigned long long>(part.at("files").get<std::uint64_t>()));
    text << line;
  }
  text << "  packages\n";
  for (const json& package : manifest.at("packages")) {
    char line[160];
    std::snprintf(line, sizeof line, "    %-24s %-28s ",
                  package.at("name").get<std::string>().c_str(),
                  package.at("version").get<std::string>().c_str());
    text << line << joined(package.at("licences")) << "\n";
  }
  text << "  left out\n";
  for (const json& rule : manifest.at("stripped")) {
    if (rule.at("files") == 0) continue;
    char line[160];
    std::snprintf(line, sizeof line, "    %-24s %6llu files %10s  ",
                  rule.at("rule").get<std::string>().c_str(),
                  static_cast<unsigned long long>(rule.at("files").get<std::uint64_t>()),
                  megabytes(rule.at("bytes")).c_str());
    text << line << rule.at("why").get<std::string>() << "\n";
  }
  return text.str();
}

json described(const fs::path& image) {
  const auto opened = Image::open(image);
  const Superblock& superblock = opened->superblock();
  const std::uint64_t file_size = fs::file_size(image);
  json manifest = parse_manifest(read_manifest(*opened), image.native(), ExitCode::kBadImage);
  manifest["image"] = {{"size", file_size},
                       {"squashfs_size", superblock.bytes_used},
                       {"compressor", compression_name(superblock.compression)},
                       {"block_size", superblock.block_size},
                       {"inodes", superblock.inode_count}};
  for (const Weight& weight : weigh(*opened, file_size)) {
    manifest["image"]["parts"].push_back({{"part", weight.part},
                                          {"files", weight.files},
                                          {"size", weight.bytes},
                                          {"stored", weight.stored}});
  }
  if (const auto trailer = read_trailer(image)) {
    manifest["image"]["digest"] = digest_text(trailer->digest);
    if (trailer->signature) manifest["image"]["signed_by"] = key_text(*trailer->signature);
  }
  return manifest;
}

// "name" -> "version" of what an image is made of.
std::map<std::string, std::string> versions(const json& manifest) {
  std::map<std::string, std::string> result;
  for (const json& package : manifest.at("packages")) {
    result[package.at("name").get<std::string>()] = package.at("version").get<std::string>();
  }
  return result;
}

std::map<std::string, std::string> file_facts(const json& manifest) {
  std::map<std::string, std::string> result;
  for (const auto& [path, entry] : manifest.at("files").items()) {
    result[path] = entry.contains("link")
                       ? "-> " + entry.at("link").get<std::string>()
                       : entry.value("digest", std::string()) + " " +
                             std::to_string(entry.at("size").get<std::uint64_t>());
  }
  return result;
}

// Lines "+ name", "- name" and "~ name" for what came, went and changed.
template <typename Describe>
void list_changes(std::ostringstream& text, const std::map<std::string, std::string>& before,
                  const std::map<std::string, std::string>& after, const Describe& describe) {
  std::map<std::string, int> names;
  for (const auto& [name, value] : before) names[name] |= 1;
  for (const auto& [name, value] : after) names[name] |= 2;
  for (const auto& [name, where] : names) {
    if (where == 1) text << "- " << name << describe(before.at(name), "") << "\n";
    if (where == 2) text << "+ " << name << describe("", after.at(name)) << "\n";
    if (where == 3 && before.at(name) != after.at(name)) {
      text << "~ " << name << describe(before.at(name), after.at(name)) << "\n";
    }
  }
}

std::string size_of(const std::string& fact) { return fact.substr(fact.rfind(' ') + 1); }

}  // namespace

std::string describe_manifest(const std::string& image, const json& manifest, bool json_wanted) {
  return read_or_refuse(image, ExitCode::kBadImage, [&] {
    return json_wanted ? manifest.dump(1) + "\n" : as_text(image, manifest);
  });
}

std::string describe_image(const fs::path& image, bool json_wanted) {
  return describe_manifest(image.native(), described(image), json_wanted);
}

std::string fit(const std::string& text, std::size_t width) {
  constexpr std::string_view kMore = " ...";
  if (width <= kMore.size()) return text;
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    if (line.size() > width && line.starts_with("    ")) {
      std::size_t end = width - kMore.size();
      // Not within a character of UTF-8.
      while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0U) == 0x80) --end;
      line.resize(end);
      line += kMore;
    }
    result += line + "\n";
  }
  return result;
}

std::string compare_manifests(const DescribedImage& old_image, const DescribedImage& new_image) {
  const auto facts = [](const DescribedImage& image, auto&& of) {
    return read_or_refuse(image.name, ExitCode::kBadImage,
                          [&] { return of(printable(image.manifest)); });
  };
  std::ostringstream packages;
  list_changes(packages, facts(old_image, versions), facts(new_image, versions),
               [](const std::string& from, const std::string& to) {
                 return " " + from + (from.empty() || to.empty() ? "" : " -> ") + to;
               });
  std::ostringstream files;
  list_changes(files, facts(old_image, file_facts), facts(new_image, file_facts),
               [](const std::string& from, const std::string& to) {
                 if (from.empty()) return " " + size_of(to);
                 if (to.empty()) return " " + size_of(from);
                 return " " + size_of(from) + " -> " + size_of(to);
               });
  std::ostringstream text;
  if (!packages.str().empty()) text << "packages\n" << packages.str();
  if (!files.str().empty()) text << "files (bytes)\n" << files.str();
  if (!text.str().empty()) {
    text << "image " << old_image.manifest.at("image").at("size") << " -> "
         << new_image.manifest.at("image").at("size") << " bytes\n";
  }
  return text.str();
}

std::string compare_images(const fs::path& old_image, const fs::path& new_image) {
  return compare_manifests({old_image.native(), described(old_image)},
                           {new_image.native(), described(new_image)});
}

}  // namespace pyram::builder
