#include "image-builder/images/list.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "fusefs/image/image.h"
#include "fusefs/image/partial_image.h"
#include "image-builder/output/manifest.h"
#include "support/error.h"
#include "support/image_names.h"
#include "support/image_reference.h"
#include "support/io.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

// What one wants to know of an image in a list; "problem" where it can't be read.
json facts_of(const NamedImage& image) {
  json facts = {{"name", image.name}, {"file", image.file.native()}, {"hidden", image.hidden}};
  for (const fs::path& point : mounts_of(image.file)) facts["mounts"].push_back(point.native());
  try {
    const auto opened = Image::open(image.file);
    if (const PartialImage* const partial = opened->partial()) {
      const MapHead head = partial->head();
      facts["size"] = head.size;
      facts["here"] = head.here;
    } else {
      facts["size"] = fs::file_size(image.file);
    }
    const json manifest =
        parse_manifest(read_manifest(*opened), image.file.native(), ExitCode::kBadImage);
    read_or_refuse(image.file.native(), ExitCode::kBadImage, [&] {
      facts["python"] = escape(manifest.at("python").at("python").get<std::string>());
      facts["pypy"] = escape(manifest.at("python").at("pypy").get<std::string>());
      facts["source"] = escape(manifest.at("source").get<std::string>());
      return 0;
    });
  } catch (const Error& error) {
    facts["problem"] = error.what();
  } catch (const fs::filesystem_error& error) {
    facts["problem"] = error.what();
  }
  return facts;
}

// The kernel writes blanks, tabs, newlines and backslashes as \ and three octal digits.
std::string decoded(const std::string& field) {
  std::string text;
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      text.push_back(static_cast<char>(std::stoi(field.substr(i + 1, 3), nullptr, 8)));
      i += 3;
    } else {
      text.push_back(field[i]);
    }
  }
  return text;
}

bool has_name(const std::vector<NamedImage>& images, const std::string& name) {
  return std::ranges::find(images, name, &NamedImage::name) != images.end();
}

std::string as_line(const json& facts, std::size_t name_width) {
  std::string name = escape(facts.at("name").get<std::string>());
  name.resize(std::max(name.size(), name_width), ' ');
  std::string line = name + "  ";
  if (facts.contains("problem")) {
    line += "not usable: " + facts.at("problem").get<std::string>();
  } else {
    char size[32];
    std::snprintf(size, sizeof size, "%7.1f MB", facts.at("size").get<double>() / 1e6);
    line += std::string(size) + "  Python " + facts.at("python").get<std::string>() + "  " +
            escape(facts.at("file").get<std::string>());
  }
  if (facts.at("hidden").get<bool>()) line += "  (hidden by the one above)";
  if (facts.contains("here")) {
    const double size = facts.at("size").get<double>();
    line += "  (" + std::to_string(static_cast<int>(facts.at("here").get<double>() / size * 100)) +
            "% fetched)";
  }
  if (facts.contains("mounts")) line += "  (mounted)";
  return line + "\n";
}

}  // namespace

std::vector<fs::path> mounts_of(const fs::path& image) {
  std::error_code error;
  const fs::path file = fs::canonical(image, error);
  std::vector<fs::path> points;
  if (error) return points;
  std::istringstream lines(read_file("/proc/self/mountinfo"));
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find(" - fuse.pyram ");
    if (dash == std::string::npos) continue;
    std::istringstream after(line.substr(dash + std::string_view(" - fuse.pyram ").size()));
    std::string source;
    after >> source;
    if (decoded(source) != file.native()) continue;
    std::istringstream before(line);
    std::string field;
    for (int i = 0; i < 5; ++i) before >> field;
    points.emplace_back(decoded(field));
  }
  return points;
}

std::vector<NamedImage> named_images() {
  std::vector<NamedImage> images;
  for (const std::string& directory : image_directories(own_directories())) {
    std::vector<std::string> names;
    add_image_names(directory, names);
    for (const std::string& name : names) {
      images.push_back(
          {name, fs::path(directory) / (name + std::string(kImageSuffix)), has_name(images, name)});
    }
  }
  std::ranges::stable_sort(images, {}, &NamedImage::name);
  return images;
}

std::string list_images(bool as_json) {
  json all = json::array();
  std::size_t width = 0;
  std::vector<NamedImage> images = named_images();
  for (const PulledImage& pulled : pulled_images()) {
    const bool hidden = has_name(images, pulled.reference);
    images.push_back({pulled.reference, pulled.file, hidden});
  }
  for (const NamedImage& image : images) {
    all.push_back(facts_of(image));
    width = std::max(width, image.name.size());
  }
  if (as_json) return all.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  std::string text;
  for (const json& facts : all) text += as_line(facts, width);
  if (!text.empty()) return text;
  std::string places;
  for (const std::string& directory : image_directories(own_directories())) {
    places += (places.empty() ? "" : ", ") + directory;
  }
  return "no images in " + places + "; pyram-image install FILE puts one there\n";
}

}  // namespace pyram::builder
