#include "deploy/status.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <vector>

#include "deploy/app_image.h"
#include "deploy/services.h"
#include "support/error.h"

namespace pyram::deploy {
namespace fs = std::filesystem;
namespace {

std::string described(const Site& site, const std::string& version) {
  try {
    const AppImage image = describe_app_image(site.image(version));
    return version + "  " + image.application + ", built " + image.built + ", " + image.signature;
  } catch (const Error& error) {
    return version + "  " + error.what();
  }
}

// "active (Serving)", since when, and its memory, as far as systemd knows.
std::string service_line(const Site& site) {
  std::string text = property_of(site, "ActiveState");
  if (const std::string said = property_of(site, "StatusText"); !said.empty()) {
    text += " (" + said + ")";
  }
  if (const std::string since = property_of(site, "ActiveEnterTimestamp"); !since.empty()) {
    text += ", since " + since;
  }
  const std::string memory = property_of(site, "MemoryCurrent");
  std::uint64_t bytes = 0;
  const auto [end, error] = std::from_chars(memory.data(), memory.data() + memory.size(), bytes);
  if (error == std::errc() && end == memory.data() + memory.size() && bytes < UINT64_MAX / 2) {
    text += ", " + std::to_string(bytes >> 20) + " MiB of memory";
  }
  return text;
}

}  // namespace

std::string status_of(const Site& site) {
  const Versions versions = site.versions();
  if (versions.current.empty()) {
    throw Error(ExitCode::kUsage, "there is no site " + site.name() + " here");
  }
  std::string text = site.name() + "\n";
  text += "  service   " + service_line(site) + "\n";
  text += "  current   " + described(site, versions.current) + "\n";
  if (!versions.previous.empty()) {
    text += "  previous  " + described(site, versions.previous) + "\n";
  }
  text += "  socket    " + web_socket_of(site).native() + "\n";
  text += "  data      " + state_of(site).native() + "\n";
  return text;
}

std::string status_of_all() {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(kApps, ignored)) {
    names.push_back(entry.path().filename().native());
  }
  std::sort(names.begin(), names.end());
  std::string text;
  for (const std::string& name : names) {
    try {
      text += status_of(Site(name));
    } catch (const Error&) {
      // Something else, or a site that is just being installed.
    }
  }
  return text.empty() ? "no site is installed; pyram-app install SITE IMAGE does that\n" : text;
}

}  // namespace pyram::deploy
