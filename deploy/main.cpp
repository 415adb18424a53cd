// pyram-app: puts images of apps into service, and takes them out. The command line.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "deploy/actions.h"
#include "deploy/services.h"
#include "deploy/status.h"
#include "support/error.h"
#include "support/exec.h"
#include "support/io.h"
#include "support/process.h"
#include "support/signal_reset.h"

namespace {

using pyram::Error;
using pyram::ExitCode;
using pyram::deploy::Site;

struct Options {
  pyram::deploy::PutOptions put;
  std::string site;
  std::string lines;
  bool follow = false;
  bool purge = false;
};

void print(const std::string& text) { pyram::write_full(STDOUT_FILENO, text, "standard output"); }

void require_root() {
  if (::geteuid() != 0) {
    throw Error(ExitCode::kUsage, "only root can change what the machine serves; use sudo");
  }
}

// This program becomes another one.
void become(const std::vector<std::string>& command) {
  const auto program = pyram::find_program(command.front());
  if (program) ::execv(program->c_str(), pyram::exec_pointers(command).data());
  throw pyram::system_error(ExitCode::kMissingTool, program ? errno : ENOENT,
                            "run " + pyram::quote(command.front()));
}

// A command of one site, which root gives.
CLI::App* add_command(CLI::App& app, const char* name, const char* description, Options& options,
                      const std::function<void(const Site&)>& work) {
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("SITE", options.site, "name of the site")->required();
  command->callback([&options, work] {
    require_root();
    work(Site(options.site));
  });
  return command;
}

void add_put(CLI::App& app, const char* name, const char* description, Options& options,
             void (*work)(const pyram::deploy::PutOptions&)) {
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("SITE", options.put.site, "name of the site")->required();
  command->add_option("IMAGE", options.put.image, "image made by `pyram-image app`")->required();
  command->add_flag("--migrate", options.put.migrate,
                    "first run Django's `migrate` from the new image");
  command->callback([&options, work] {
    require_root();
    work(options.put);
  });
}

void add_changes(CLI::App& app, Options& options) {
  add_put(app, "install", "start a new site", options, pyram::deploy::install);
  add_put(app, "upgrade", "switch a site to another image, without failed requests", options,
          pyram::deploy::upgrade);
  add_command(app, "rollback", "switch a site back to its previous image", options,
              pyram::deploy::roll_back);
  add_command(app, "reload", "restart a site's processes, without failed requests", options,
              pyram::deploy::reload_current);
  CLI::App* remove = add_command(
      app, "remove", "stop a site and delete its images", options,
      [&options](const Site& site) { pyram::deploy::remove_site(site, options.purge); });
  remove->add_flag("--purge", options.purge, "also delete its variables and its data");
  add_command(app, "mount", "mount the current image (the site's unit does this before it starts)",
              options, pyram::deploy::mount_current);
}

void add_manage(CLI::App& app, Options& options) {
  CLI::App* command = app.add_subcommand(
      "manage", "run a command of Django's manage.py with the site's user and variables");
  command->add_option("SITE", options.site, "name of the site")->required();
  // What follows is Django's, with all of its options.
  command->prefix_command();
  command->callback([&options, command] {
    require_root();
    pyram::deploy::require_systemd();
    const Site site(options.site);
    pyram::deploy::mount_current(site);
    const bool terminal = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
    become(pyram::deploy::manage_command(site, site.versions().current, command->remaining(),
                                         terminal));
  });
}

void add_views(CLI::App& app, Options& options) {
  CLI::App* status =
      app.add_subcommand("status", "show which images the sites serve, and their state");
  status->add_option("SITE", options.site, "name of the site; default: all sites");
  status->callback([&options] {
    pyram::deploy::require_systemd();
    print(options.site.empty() ? pyram::deploy::status_of_all()
                               : pyram::deploy::status_of(Site(options.site)));
  });
  CLI::App* logs = app.add_subcommand("logs", "show the log of a site");
  logs->add_option("SITE", options.site, "name of the site")->required();
  logs->add_flag("-f,--follow", options.follow, "continue with new lines");
  logs->add_option("-n,--lines", options.lines, "only the last N lines");
  logs->callback([&options] {
    std::vector<std::string> more;
    if (options.follow) more.emplace_back("--follow");
    if (!options.lines.empty()) more.push_back("--lines=" + options.lines);
    become(pyram::deploy::journal_command(Site(options.site), more));
  });
}

}  // namespace

int main(int argc, char** argv) {
  pyram::reset_signals({SIGHUP, SIGINT, SIGQUIT});
  pyram::ensure_standard_descriptors();
  ::umask(022);
  try {
    CLI::App app{
        "Serves images of applications by systemd: upgrades without failed requests, and "
        "rollbacks."};
    app.set_version_flag("--version", "pyram-app " PYRAM_VERSION);
    app.require_subcommand(1);
    Options options;
    add_changes(app, options);
    add_manage(app, options);
    add_views(app, options);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& wanted) {
      return app.exit(wanted);  // --help and --version
    } catch (const CLI::ParseError& error) {
      std::fprintf(stderr, "pyram-app: %s; see pyram-app --help\n", error.what());
      return static_cast<int>(ExitCode::kUsage);
    }
    return static_cast<int>(ExitCode::kOk);
  } catch (const Error& error) {
    std::fprintf(stderr, "pyram-app: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pyram-app: %s\n", error.what());
    return static_cast<int>(ExitCode::kFailed);
  }
}
