// pyram-image: makes, shows and checks images. The command line; the work is in the library.
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <bit>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>

#include "image-builder/app/app.h"
#include "image-builder/build.h"
#include "image-builder/images/install.h"
#include "image-builder/images/list.h"
#include "image-builder/images/outdated.h"
#include "image-builder/output/bundle.h"
#include "image-builder/output/info.h"
#include "image-builder/output/integrity.h"
#include "image-builder/project_file.h"
#include "image-builder/train/train.h"
#include "image-builder/usage_error.h"
#include "registry/fetcher.h"
#include "registry/pull.h"
#include "registry/push.h"
#include "support/error.h"
#include "support/image_names.h"
#include "support/io.h"
#include "support/signal_reset.h"

namespace {

using pyram::ExitCode;

using pyram::image_file;

struct InfoOptions {
  std::string image;
  std::string other;
  std::string key;
  bool json = false;
};

std::string image(const InfoOptions& options) { return image_file(options.image); }

// Of a terminal that shows standard output; 0: it is none, and lines may be as long as they are.
std::size_t terminal_width() {
  winsize size{};
  if (::isatty(STDOUT_FILENO) != 1) return 0;
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void print(const std::string& text) { pyram::write_full(STDOUT_FILENO, text, "standard output"); }

std::optional<std::uint64_t> number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Checks of values; what is wrong with one, for CLI11 to put behind the option's name.
std::string is_level(const std::string& text) {
  const auto level = number(text);
  if (level && *level >= 1 && *level <= 22) return {};
  return "needs a number from 1 to 22, not " + pyram::quote(text);
}

// As mksquashfs takes it, which would refuse another one after minutes only.
std::string is_block_size(const std::string& text) {
  const auto size = number(text);
  if (size && *size >= 4096 && *size <= 1048576 && std::has_single_bit(*size)) return {};
  return "needs a power of two from 4096 to 1048576, not " + pyram::quote(text);
}

// What the file of the project in `directory` says.
std::optional<pyram::builder::ProjectFile> project_file(const std::filesystem::path& directory,
                                                        bool quiet) {
  auto project = pyram::builder::read_project_file(directory);
  if (project && !quiet) {
    std::fprintf(stderr, "pyram-image: with the settings of %s\n",
                 pyram::escape(project->file.native()).c_str());
  }
  return project;
}

// A setting of the project's, where the command line has none.
template <typename Value>
void take(const CLI::App& command, const char* option, const Value& setting, Value& value) {
  if (!setting.empty() && command.count(option) == 0) value = setting;
}

// Those that `build` and `app` have in common.
void take_settings(const CLI::App& command, const pyram::builder::ProjectFile& project,
                   pyram::builder::BuildOptions& options) {
  take(command, "--output", project.output, options.output);
  take(command, "--from", project.base, options.from);
  take(command, "--with", project.packages, options.packages.names);
  take(command, "--requirement", project.requirements, options.packages.requirements);
}

// What decides how packages are found, for `build` and `app`.
void add_packages(CLI::App* command, pyram::builder::BuildOptions& options) {
  command->add_option("--with", options.packages.names,
                      "a package to add: NAME or NAME==VERSION, by pip, or debian:NAME, a package "
                      "of the debian: source (more than once: several)");
  command->add_option("--wheel", options.packages.wheels, "a wheel to add, with what it needs");
  command->add_option("-r,--requirement", options.packages.requirements,
                      "a requirements file, as pip takes it; its hashes are checked");
  command->add_option("--index-url", options.packages.index_url, "pip's package index");
  command->add_flag("--no-index", options.packages.no_index,
                    "have pip look in the places of --find-links only");
  command->add_option("--find-links", options.packages.find_links,
                      "a directory or page with packages for pip");
  command
      ->add_option("--mirror", options.mirror,
                   "Debian mirror; otherwise the machine's own, or deb.debian.org")
      ->envname("PYRAM_DEBIAN_MIRROR");
  command->add_option("--cache-dir", options.cache, "where downloaded packages are kept")
      ->capture_default_str();
  command->add_option("--work-dir", options.work_dir,
                      "where intermediate files go; otherwise $TMPDIR, or beside the output");
  command->add_option("--sign", options.key, "an Ed25519 private key (PEM) to sign the image with");
  command->add_flag("-q,--quiet", options.quiet, "print errors only");
}

void add_build(CLI::App& app, pyram::builder::BuildOptions& options, int& code) {
  CLI::App* command = app.add_subcommand(
      "build", "make an image; pyram.toml or [tool.pyram] here says what the options don't");
  command->add_option("-o,--output", options.output, "the image to write");
  add_packages(command, options);
  command
      ->add_option("--from", options.from,
                   "what to make it of: debian:SUITE, tar:FILE (a portable build of PyPy) or "
                   "dir:PATH (an installed PyPy)")
      ->capture_default_str();
  command->add_option("--arch", options.architecture,
                      "the architecture that the image is for, amd64 or arm64; otherwise this "
                      "machine's (another one's programs run by qemu-user)");
  command->add_option("--keep", options.keep, "a pattern of files that no rule may remove");
  command->add_option("--strip", options.strip, "a pattern of more files to leave out");
  command->add_option("--rules", options.rules,
                      "a file with more rules (see docs/image-building.md)");
  command->add_option("--block-size", options.squash.block_size, "of the SquashFS, in bytes")
      ->check(is_block_size)
      ->capture_default_str();
  command->add_option("--level", options.squash.level, "compression level of zstd")
      ->check(is_level)
      ->capture_default_str();
  command->add_flag(
      "!--no-elf-packing", options.pack_elf,
      "leave the shared libraries as they are: addresses, relocations, tables, order");
  command->add_flag("--relocatable", options.relocatable,
                    "give no library an address of its own: each start then relocates the "
                    "interpreter, at an address that nobody knows before");
  command->add_flag(
      "--columns", options.columns,
      "keep the columns in the bytecode (carets in tracebacks of the image's modules)");
  command->add_option("--train", options.trainings,
                      "a script that the image is to start fast (more than once: several)");
  command->add_flag("!--no-train", options.train, "make no hot list");
  command->callback([command, &options, &code] {
    if (const auto project = project_file(".", options.quiet)) {
      take_settings(*command, *project, options);
      take(*command, "--keep", project->keep, options.keep);
      take(*command, "--rules", project->rules, options.rules);
      take(*command, "--strip", project->strip, options.strip);
      take(*command, "--train", project->trainings, options.trainings);
    }
    if (options.output.empty()) throw CLI::RequiredError("--output");
    code = pyram::builder::build_image(options);
  });
}

void add_app(CLI::App& app, pyram::builder::AppOptions& options, int& code) {
  CLI::App* command =
      app.add_subcommand("app", "make an image of a project, with all that it needs to be served");
  options.project = ".";
  command->add_option("PROJECT", options.project, "the project's directory")->capture_default_str();
  command->add_option("-o,--output", options.build.output, "the image to write");
  command->add_option(
      "--app", options.application,
      "the WSGI or ASGI application, MODULE:CALLABLE; otherwise that of Django's settings");
  command->add_option("--script", options.script,
                      "a program in the project, which the image runs; nothing is served then");
  command->add_option("--settings", options.settings,
                      "Django's settings module; otherwise the one that manage.py names");
  command->add_option("--env", options.environment,
                      "NAME=VALUE for the project while it is looked at; not put into the image");
  command->add_option(
      "--urls", options.urls,
      "a list of paths or an access log: what the training and the warm-up ask for");
  command->add_option("--keep", options.keep, "a pattern of files that no rule may leave out");
  command->add_option("--rules", options.rules, "a file with more rules (see docs/serving.md)");
  command->add_flag("--list", options.list, "only list what would be left out, with the rules");
  command->add_option("--from", options.build.from, "what to make PyPy of, as `build` takes it")
      ->capture_default_str();
  command->add_option("--level", options.build.squash.level, "compression level of zstd")
      ->check(is_level)
      ->capture_default_str();
  add_packages(command, options.build);
  command->callback([command, &options, &code] {
    if (const auto project = project_file(options.project, options.build.quiet)) {
      take_settings(*command, *project, options.build);
      take(*command, "--keep", project->keep, options.keep);
      take(*command, "--rules", project->rules, options.rules);
      take(*command, "--app", project->application, options.application);
      take(*command, "--script", project->script, options.script);
      take(*command, "--settings", project->settings, options.settings);
      take(*command, "--urls", project->urls, options.urls);
    }
    if (options.build.output.empty() && !options.list) throw CLI::RequiredError("--output");
    code = pyram::builder::build_app(options);
  });
}

void add_train(CLI::App& app, pyram::builder::TrainOptions& options, int& code) {
  CLI::App* command =
      app.add_subcommand("train", "make an image anew, laid out for how a script starts");
  command->add_option("IMAGE", options.image, "the image: a file, or a name")->required();
  command->add_option("-o,--output", options.output, "the new image to write")->required();
  command->add_option("SCRIPT", options.program, "the script and its arguments, after --")
      ->required();
  command->add_option("--level", options.level, "compression level of zstd")
      ->check(is_level)
      ->capture_default_str();
  command->callback([&options, &code] {
    options.image = image_file(options.image.native());
    code = pyram::builder::train_image(options);
  });
}

void add_info(CLI::App& app, InfoOptions& options) {
  CLI::App* info = app.add_subcommand("info", "show what an image holds");
  info->add_option("IMAGE", options.image, "the image: a file, or a name")->required();
  info->add_flag("--json", options.json, "for programs: the manifest and the file's own facts");
  info->callback([&options] {
    const std::string text = pyram::builder::describe_image(image(options), options.json);
    print(options.json ? text : pyram::builder::fit(text, terminal_width()));
  });

  CLI::App* diff = app.add_subcommand("diff", "show what differs between two images");
  diff->add_option("OLD", options.image, "an image")->required();
  diff->add_option("NEW", options.other, "another")->required();
  diff->callback([&options] {
    print(pyram::builder::compare_images(image(options), image_file(options.other)));
  });
}

void add_verify(CLI::App& app, InfoOptions& options) {
  CLI::App* verify =
      app.add_subcommand("verify", "check every byte of an image, and who signed it");
  verify->add_option("IMAGE", options.image, "an image: a file, or a name")->required();
  verify->add_option("--key", options.key,
                     "the Ed25519 public key (PEM) that has to have signed it");
  verify->callback([&options] {
    print(pyram::builder::verify_image(image(options), pyram::builder::keys_of(options.key)));
  });
  CLI::App* sign = app.add_subcommand("sign", "sign an image");
  sign->add_option("IMAGE", options.image, "an image: a file, or a name")->required();
  sign->add_option("--key", options.key, "an Ed25519 private key (PEM)")->required();
  sign->callback([&options] { print(pyram::builder::sign_image(image(options), options.key)); });
}

void add_bundle(CLI::App& app, pyram::builder::BundleOptions& options, int& code) {
  CLI::App* command =
      app.add_subcommand("bundle", "make one executable of an image and what runs it");
  command->add_option("IMAGE", options.image, "an image: a file, or a name")->required();
  command->add_option("-o,--output", options.output, "the executable to write")->required();
  command->add_option("--script", options.application,
                      "what it runs: a script, or a directory with a __main__.py");
  command->callback([&options, &code] {
    options.image = image_file(options.image.native());
    code = pyram::builder::bundle_image(options);
  });
}

// The images that have names.
struct NamedOptions {
  bool json = false;
  pyram::builder::InstallOptions install;
  std::string removed;
  pyram::builder::OutdatedOptions outdated;
};

void add_named(CLI::App& app, NamedOptions& options) {
  CLI::App* list = app.add_subcommand("list", "show the images that have a name");
  list->add_flag("--json", options.json, "for programs");
  list->callback([&options] { print(pyram::builder::list_images(options.json)); });

  CLI::App* install =
      app.add_subcommand("install", "give an image a name, for all users or for you");
  pyram::builder::InstallOptions& wanted = options.install;
  install->add_option("IMAGE", wanted.image, "a file, or the name of an image elsewhere")
      ->required();
  install->add_option("--name", wanted.name, "what to call it; otherwise as its file");
  install->add_option("--key", wanted.key,
                      "the Ed25519 public key (PEM) that has to have signed it");
  install->add_flag("--user", wanted.user, "for you only, also where you are root");
  install->add_flag("--restart", wanted.restart,
                    "restart pyram-mount@NAME.service, where that mounts the image it replaces");
  install->callback([&wanted] { print(pyram::builder::install_image(wanted)); });

  CLI::App* remove = app.add_subcommand("remove", "remove an image that has a name");
  remove->add_option("NAME", options.removed, "its name")->required();
  remove->callback([&options] { print(pyram::builder::remove_image(options.removed)); });
}

void add_outdated(CLI::App& app, pyram::builder::OutdatedOptions& options, std::string& name,
                  int& code) {
  CLI::App* command = app.add_subcommand(
      "outdated", "show what Debian has newer than an image's packages; exit code 10 if anything");
  command->add_option("IMAGE", name, "the image: a file, or a name")->capture_default_str();
  command
      ->add_option("--mirror", options.mirror,
                   "Debian mirror; otherwise the machine's own, or deb.debian.org")
      ->envname("PYRAM_DEBIAN_MIRROR");
  command->add_option("--cache-dir", options.cache, "where lists of packages are kept")
      ->capture_default_str();
  command->add_flag("--json", options.json, "for programs");
  command->add_flag("-q,--quiet", options.quiet, "print nothing where nothing is newer");
  command->callback([&options, &name, &code] {
    options.image = image_file(name);
    code = pyram::builder::list_outdated(options);
  });
}

// What decides how servers are spoken to, for `push` and `pull`.
void add_session(CLI::App* command, pyram::registry::SessionOptions& options, bool& quiet) {
  command->add_flag("--plain-http", options.plain_http,
                    "speak to the registry without TLS, as one on this machine may want it");
  command
      ->add_option("--ca-file", options.http.certificates,
                   "certificates (PEM) to check the server by; otherwise the system's")
      ->envname("SSL_CERT_FILE");
  command
      ->add_option_function<unsigned>(
          "--timeout",
          [&options](unsigned seconds) { options.http.patience = std::chrono::seconds(seconds); },
          "how long a server may be silent, in seconds (default: 30)")
      ->check(CLI::Range(1, 3600));
  command->add_option("--retries", options.retries, "how often a request is tried again")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  command->add_flag("-q,--quiet", quiet, "print errors only");
}

struct PushWords {
  pyram::registry::PushOptions options;
  std::vector<std::string> words;
};

void add_push(CLI::App& app, PushWords& push) {
  CLI::App* command = app.add_subcommand("push", "put images into a registry");
  command
      ->add_option("IMAGE", push.words,
                   "the image (or one for each processor), and HOST/REPOSITORY:TAG behind it")
      ->required()
      ->expected(2, 16);
  add_session(command, push.options.session, push.options.quiet);
  command->callback([&push] {
    push.options.reference = push.words.back();
    push.options.images.assign(push.words.begin(), push.words.end() - 1);
    const std::string text = pyram::registry::push_images(push.options);
    if (!push.options.quiet) print(text);
  });
}

void add_pull(CLI::App& app, pyram::registry::PullOptions& options) {
  CLI::App* command = app.add_subcommand("pull", "get an image out of a registry, or from a URL");
  command->add_option("SOURCE", options.source, "HOST/REPOSITORY:TAG, or a URL")->required();
  command->add_option("-o,--output", options.output,
                      "the file to write; otherwise it is kept where pyram --image finds it");
  command->add_option("--digest", options.digest,
                      "what has to lie at a URL: sha256:..., as pyram-image info shows it");
  command->add_option("--key", options.keys,
                      "an Ed25519 public key (PEM) that has to have signed it; otherwise those in "
                      "/etc/pyram/trust.d");
  command->add_option("--arch", options.architecture,
                      "the processor, amd64 or arm64; otherwise this machine's");
  command->add_flag("--lazy", options.lazy,
                    "return when the image can be used; a process of its own fetches the rest");
  command
      ->add_option("--rate", options.rate,
                   "with --lazy: bytes a second of what nobody waits for (512K, 8M; 0: any)")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("8M");
  add_session(command, options.session, options.quiet);
  command->callback([&options] {
    const std::string text = pyram::registry::pull_image(options);
    if (!options.quiet) print(text);
  });
}

// How pull and pyram-mount start the process that fetches the rest; for nobody else.
void add_fetch(CLI::App& app, std::filesystem::path& directory) {
  CLI::App* command = app.add_subcommand("fetch")->group("");
  command->add_option("DIRECTORY", directory)->required();
  command->callback([&directory] { pyram::registry::fetch_image(directory); });
}

}  // namespace

int main(int argc, char** argv) {
  // Inherited settings of signals must not reach the programs that a build runs, nor break the
  // waits for their ends. But nohup and a shell's background jobs ignore signals on purpose.
  pyram::reset_signals({SIGHUP, SIGINT, SIGQUIT});
  pyram::ensure_standard_descriptors();
  // Packages' files keep the modes that they come with, and ours get the usual ones.
  ::umask(022);
  int code = 0;
  try {
    CLI::App app{"Makes, shows and checks images for pyram."};
    app.set_version_flag("--version", "pyram-image " PYRAM_VERSION);
    app.require_subcommand(1);
    pyram::builder::BuildOptions build;
    build.cache = pyram::builder::default_cache();
    add_build(app, build, code);
    pyram::builder::AppOptions project;
    project.build.cache = pyram::builder::default_cache();
    add_app(app, project, code);
    pyram::builder::TrainOptions train;
    add_train(app, train, code);
    InfoOptions info;
    add_info(app, info);
    add_verify(app, info);
    pyram::builder::BundleOptions bundle;
    add_bundle(app, bundle, code);
    NamedOptions named;
    add_named(app, named);
    std::string examined = "default";
    named.outdated.cache = pyram::builder::default_cache();
    add_outdated(app, named.outdated, examined, code);
    PushWords push;
    add_push(app, push);
    pyram::registry::PullOptions pull;
    add_pull(app, pull);
    std::filesystem::path fetched;
    add_fetch(app, fetched);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& wanted) {
      return app.exit(wanted);  // --help and --version
    } catch (const CLI::ParseError& error) {
      std::fprintf(stderr, "pyram-image: %s\n", pyram::builder::usage_error(app, error).c_str());
      return static_cast<int>(ExitCode::kUsage);
    }
    return code;
  } catch (const pyram::Error& error) {
    std::fprintf(stderr, "pyram-image: %s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pyram-image: %s\n", error.what());
    return static_cast<int>(ExitCode::kFailed);
  }
}
