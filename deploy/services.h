// The system's services of a site, by systemctl, systemd-run and journalctl.
//
//   pyram-app@SITE.socket, .service      where it listens, and what serves
//   pyram-app-image@SITE-VERSION.service the mount of one version, in the machine's own file tree
//
// The site's own service is confined and cannot mount. A mount that nobody uses any more ends by
// itself.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "deploy/site.h"
#include "support/unique_fd.h"

namespace pyram::deploy {

// What the units say, for those who have to know.
[[nodiscard]] std::filesystem::path web_socket_of(const Site& site);
[[nodiscard]] std::filesystem::path control_socket_of(const Site& site);
[[nodiscard]] std::filesystem::path variables_of(const Site& site);  // NAME=VALUE lines.
[[nodiscard]] std::filesystem::path state_of(const Site& site);      // What the app may write to.

// Throws Error (kMissingTool) where systemd isn't what runs the machine.
void require_systemd();

// Has a version mounted, and waits until it is. The mount stays for as long as what it returns is
// open, and where it is used. Throws Error (kFailed).
[[nodiscard]] UniqueFd mount_version(const Site& site, const std::string& version);
// Ends a mount that nobody needs. No error where there is none.
void unmount_version(const Site& site, const std::string& version);

[[nodiscard]] bool is_serving(const Site& site);
// A property of the service, as `systemctl show` gives it.
[[nodiscard]] std::string property_of(const Site& site, std::string_view name);

// Both wait until the service is ready. Throw Error (kFailed) with what it said last.
void enable_and_start(const Site& site);
void restart(const Site& site);
// Has the service, which serves, go on with the current version; waits until that is warm. Throws
// Error (kFailed): then the one before goes on.
void reload(const Site& site);
void disable_and_stop(const Site& site);

// Arguments of systemd-run for Django's command `words`, out of a version, as the service's user
// and with its variables and directory. `terminal`: a person is asked for input.
[[nodiscard]] std::vector<std::string> manage_command(const Site& site, const std::string& version,
                                                      const std::vector<std::string>& words,
                                                      bool terminal);
// Runs `migrate`; returns what it printed. Throws Error (kFailed).
std::string migrate(const Site& site, const std::string& version);

// Arguments of journalctl.
[[nodiscard]] std::vector<std::string> journal_command(const Site& site,
                                                       const std::vector<std::string>& options);

}  // namespace pyram::deploy
