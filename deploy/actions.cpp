#include "deploy/actions.h"

#include <cstdio>
#include <utility>

#include "deploy/app_image.h"
#include "deploy/services.h"
#include "support/error.h"

namespace pyram::deploy {
namespace fs = std::filesystem;
namespace {

void say(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void require_site(const Site& site) {
  if (site.exists()) return;
  throw Error(ExitCode::kUsage, "there is no site " + site.name() + " here; pyram-app install " +
                                    site.name() + " IMAGE makes it");
}

// A checked image, stored and mounted.
struct Candidate {
  std::string version;
  AppImage image;
  UniqueFd mount;  // Held.
};

Candidate prepare(const Site& site, const PutOptions& options) {
  AppImage image = check_app_image(options.image);
  if (options.migrate && !image.is_django) {
    throw Error(ExitCode::kUsage, "--migrate is for Django's projects, and " +
                                      quote(options.image.native()) + " serves " +
                                      image.application);
  }
  Stored stored = site.store(options.image, image.digest);
  if (stored.is_new) unmount_version(site, stored.version);
  UniqueFd mount = mount_version(site, stored.version);
  return {std::move(stored.version), std::move(image), std::move(mount)};
}

void migrate_if_asked(const Site& site, const Candidate& candidate, const PutOptions& options) {
  if (!options.migrate) return;
  const std::string printed = migrate(site, candidate.version);
  std::fputs(printed.c_str(), stdout);
  say(site.name() +
      ": the database has been migrated; going back to another version does not undo"
      " that");
}

std::string about(const Candidate& candidate) {
  return candidate.version + " of " + candidate.image.application + " (built " +
         candidate.image.built + ", " + candidate.image.signature + ")";
}

void say_no_migration(const Site& site, const Candidate& candidate, const PutOptions& options) {
  if (!candidate.image.is_django || options.migrate) return;
  say(site.name() + ": the database was not migrated; --migrate does that, and pyram-app manage " +
      site.name() + " migrate");
}

// After an error, which is what is told.
void stop_anyway(const Site& site) {
  try {
    disable_and_stop(site);
  } catch (const Error&) {
    // Its files go all the same.
  }
}

// Has the site serve what `wanted` says, or as before. `what` it was, for the error.
void switch_to(const Site& site, const Versions& wanted, const std::string& what) {
  const Versions before = site.versions();
  const bool serves = is_serving(site);
  site.point(wanted);
  try {
    if (serves) {
      reload(site);
    } else {
      restart(site);
    }
  } catch (const Error& error) {
    site.point(before);
    std::string end = "; " + before.current + " goes on serving";
    if (!serves || !is_serving(site)) {
      try {
        restart(site);
      } catch (const Error&) {
        end = "; nor does " + before.current + " serve: pyram-app logs " + site.name();
      }
    }
    throw Error(ExitCode::kFailed, what + " did not get ready: " + error.what() + end);
  }
}

}  // namespace

void install(const PutOptions& options) {
  const Site site(options.site);
  require_systemd();
  if (site.exists()) {
    throw Error(ExitCode::kUsage, "there is a site " + site.name() +
                                      " already; pyram-app upgrade " + site.name() +
                                      " IMAGE has it serve another version");
  }
  site.create();
  const UniqueFd lock = site.lock();
  try {
    const Candidate candidate = prepare(site, options);
    migrate_if_asked(site, candidate, options);
    site.point({.current = candidate.version, .previous = {}});
    enable_and_start(site);
    say(site.name() + ": serves " + about(candidate) + " on " + web_socket_of(site).native());
    say_no_migration(site, candidate, options);
  } catch (const Error& error) {
    if (site.exists()) stop_anyway(site);
    site.remove();
    throw Error(error.code(), "cannot install " + site.name() + ": " + error.what());
  }
}

void upgrade(const PutOptions& options) {
  const Site site(options.site);
  require_systemd();
  require_site(site);
  const UniqueFd lock = site.lock();
  const Versions before = site.versions();
  try {
    const Candidate candidate = prepare(site, options);
    if (candidate.version == before.current) {
      say(site.name() + ": " + candidate.version + " is the current version already");
      return;
    }
    migrate_if_asked(site, candidate, options);
    switch_to(site, {.current = candidate.version, .previous = before.current},
              "version " + candidate.version);
    site.prune();
    say(site.name() + ": serves " + about(candidate) + "; before: " + before.current);
    say_no_migration(site, candidate, options);
  } catch (const Error& error) {
    site.prune();
    std::string text = error.what();
    if (text.find(before.current) == std::string::npos && is_serving(site)) {
      text += "; " + before.current + " goes on serving";
    }
    throw Error(error.code(), "cannot upgrade " + site.name() + ": " + text);
  }
}

void roll_back(const Site& site) {
  require_systemd();
  require_site(site);
  const UniqueFd lock = site.lock();
  const Versions before = site.versions();
  if (before.previous.empty()) {
    throw Error(ExitCode::kUsage, "cannot roll " + site.name() +
                                      " back: it has had no version before " + before.current);
  }
  try {
    switch_to(site, {.current = before.previous, .previous = before.current},
              "version " + before.previous);
  } catch (const Error& error) {
    throw Error(error.code(), "cannot roll " + site.name() + " back: " + error.what());
  }
  say(site.name() + ": serves " + before.previous + " again; before: " + before.current +
      ". The database was not touched");
}

void reload_current(const Site& site) {
  require_site(site);
  try {
    reload(site);
  } catch (const Error& error) {
    throw Error(error.code(), "cannot reload " + site.name() + ": " + error.what());
  }
}

void mount_current(const Site& site) {
  require_site(site);
  (void)mount_version(site, site.versions().current);
}

void remove_site(const Site& site, bool purge) {
  require_systemd();
  require_site(site);
  const UniqueFd lock = site.lock();
  disable_and_stop(site);
  site.remove();
  if (!purge) {
    say(site.name() + ": removed; its variables and data stay in " + variables_of(site).native() +
        " and " + state_of(site).native() + " (--purge removes them)");
    return;
  }
  std::error_code ignored;
  fs::remove(variables_of(site), ignored);
  fs::remove_all("/var/lib/private/pyram-app/" + site.name(), ignored);
  fs::remove(state_of(site), ignored);
  say(site.name() + ": removed, with its variables and data");
}

}  // namespace pyram::deploy
