#include "deploy/services.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <ctime>

#include "deploy/control_client.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/process.h"
#include "support/text.h"

namespace pyram::deploy {
namespace fs = std::filesystem;
namespace {

constexpr char kMounts[] = "/run/pyram/apps/";

std::string service_of(const Site& site) { return "pyram-app@" + site.name() + ".service"; }
std::string socket_unit_of(const Site& site) { return "pyram-app@" + site.name() + ".socket"; }
std::string user_of(const Site& site) { return "pyram-" + site.name(); }

// systemd's form of SITE/VERSION in a unit's name: '/' is '-', and '-' is escaped.
std::string mount_unit_of(const Site& site, const std::string& version) {
  std::string name = "pyram-app-image@";
  for (const char c : site.name()) name += c == '-' ? std::string("\\x2d") : std::string(1, c);
  return name + "-" + version + ".service";
}

// What the service itself has said since `since` to why it ended, or nothing: the last line that is
// no part of a traceback. It may have been started again meanwhile, and failed half-way again.
std::string last_words(const Site& site, std::time_t since) {
  const Outcome outcome =
      run({.arguments = {"journalctl", "--unit", service_of(site), "--since",
                         "@" + std::to_string(since), "--lines", "100", "--output", "cat",
                         "--no-pager", "--quiet", "_TRANSPORT=stdout"}});
  std::string words;
  std::string_view rest = outcome.output;
  while (!rest.empty()) {
    const std::string_view line = take_part(rest, '\n');
    if (!line.empty() && line.front() != ' ' && !line.starts_with("Traceback ")) words = line;
  }
  return escape(words);
}

void start_and_wait(const Site& site, const std::vector<std::string>& arguments) {
  const std::time_t since = std::time(nullptr);
  const Outcome outcome = run({.arguments = arguments});
  if (outcome.ok()) return;
  const std::string words = last_words(site, since);
  throw Error(ExitCode::kFailed, words.empty() ? outcome.last_line() : words);
}

}  // namespace

fs::path web_socket_of(const Site& site) { return "/run/pyram-app/" + site.name() + ".sock"; }
fs::path control_socket_of(const Site& site) {
  return "/run/pyram-app-" + site.name() + "/control";
}
fs::path variables_of(const Site& site) { return "/etc/pyram/apps/" + site.name() + ".env"; }
fs::path state_of(const Site& site) { return "/var/lib/pyram-app/" + site.name(); }

void require_systemd() {
  struct stat status {};
  if (::stat("/run/systemd/system", &status) == 0) return;
  throw Error(ExitCode::kMissingTool,
              "there are no services here: systemd does not run this machine; "
              "in a container run pyram --image FILE -m pyram_serve itself");
}

UniqueFd mount_version(const Site& site, const std::string& version) {
  const std::string unit = mount_unit_of(site, version);
  const std::string inside = kMounts + site.name() + '/' + version + '/' + layout::kMetadata;
  // One that nobody used may just have ended.
  constexpr int kAttempts = 3;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (!run({.arguments = {"systemctl", "start", unit}}).ok()) break;
    UniqueFd held(::open(inside.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (held) return held;
  }
  throw Error(ExitCode::kFailed, "cannot mount the image " + quote(site.image(version).native()) +
                                     ": journalctl -u '" + unit + "' says why");
}

void unmount_version(const Site& site, const std::string& version) {
  (void)run({.arguments = {"systemctl", "stop", mount_unit_of(site, version)}});
}

std::string property_of(const Site& site, std::string_view name) {
  const Outcome outcome = run({.arguments = {"systemctl", "show", "--value", "--property",
                                             std::string(name), service_of(site)}});
  return outcome.ok() ? outcome.output.substr(0, outcome.output.find('\n')) : std::string();
}

bool is_serving(const Site& site) {
  const std::string state = property_of(site, "ActiveState");
  return state == "active" || state == "reloading";
}

void enable_and_start(const Site& site) {
  start_and_wait(
      site, {"systemctl", "--quiet", "enable", "--now", socket_unit_of(site), service_of(site)});
}

void restart(const Site& site) {
  // One that failed often may not be started before a while has gone by.
  (void)run({.arguments = {"systemctl", "reset-failed", service_of(site)}});
  start_and_wait(site, {"systemctl", "restart", service_of(site)});
}

void reload(const Site& site) {
  const UniqueFd held = mount_version(site, site.versions().current);
  ask_for_reload(control_socket_of(site));
}

void disable_and_stop(const Site& site) {
  run_or_throw({.arguments = {"systemctl", "--quiet", "disable", "--now", socket_unit_of(site),
                              service_of(site)}},
               ExitCode::kFailed, "stop the site");
  (void)run({.arguments = {"systemctl", "reset-failed", service_of(site)}});
  const Versions versions = site.versions();
  for (const std::string& version : {versions.current, versions.previous}) {
    if (!version.empty()) unmount_version(site, version);
  }
}

std::vector<std::string> manage_command(const Site& site, const std::string& version,
                                        const std::vector<std::string>& words, bool terminal) {
  std::vector<std::string> command{"systemd-run", "--quiet", "--wait", "--collect",
                                   terminal ? "--pty" : "--pipe"};
  // The service's own, as far as they decide what the command finds and may do.
  for (const std::string& property :
       {std::string("DynamicUser=yes"), "User=" + user_of(site),
        "StateDirectory=pyram-app/" + site.name(), "WorkingDirectory=" + state_of(site).native(),
        "EnvironmentFile=-" + variables_of(site).native(),
        std::string("Environment=PYRAM_BACKEND=system"), std::string("PrivateDevices=yes"),
        std::string("ProtectHome=yes"), std::string("UMask=0077")}) {
    command.push_back("--property=" + property);
  }
  for (const std::string& word :
       {std::string("/usr/bin/pyram"), std::string("--image"), site.image(version).native(),
        std::string("-m"), std::string("pyram_serve"), std::string("manage")}) {
    command.push_back(word);
  }
  command.insert(command.end(), words.begin(), words.end());
  return command;
}

std::string migrate(const Site& site, const std::string& version) {
  const Outcome outcome =
      run({.arguments = manage_command(site, version, {"migrate", "--noinput"}, false)});
  if (outcome.ok()) return outcome.output;
  throw Error(ExitCode::kFailed, "the migrations failed: " + escape(outcome.last_line()));
}

std::vector<std::string> journal_command(const Site& site,
                                         const std::vector<std::string>& options) {
  std::vector<std::string> command{"journalctl", "--unit", service_of(site)};
  command.insert(command.end(), options.begin(), options.end());
  return command;
}

}  // namespace pyram::deploy
