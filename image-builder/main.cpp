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
#include "registry/remove.h"
#include "support/error.h"
#include "support/image_names.h"
#include "support/image_reference.h"
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
                      "package to add: NAME or NAME==VERSION from pip's index, or debian:NAME from "
                      "the debian: source (may be repeated)");
  command->add_option("--wheel", options.packages.wheels, "wheel to add, with its dependencies");
  command->add_option("-r,--requirement", options.packages.requirements,
                      "requirements file, as for pip; its hashes are checked");
  command->add_option("--index-url", options.packages.index_url, "pip's package index");
  command->add_flag("--no-index", options.packages.no_index,
                    "let pip use only --find-links, no index");
  command->add_option("--find-links", options.packages.find_links,
                      "directory or page with packages for pip");
  command
      ->add_option("--mirror", options.mirror,
                   "Debian mirror; default: the machine's own, or deb.debian.org")
      ->envname("PYRAM_DEBIAN_MIRROR");
  command->add_option("--cache-dir", options.cache, "directory for downloaded packages")
      ->capture_default_str();
  command->add_option("--work-dir", options.work_dir,
                      "directory for temporary files; default: $TMPDIR, or the output's directory");
  command->add_option("--sign", options.key, "Ed25519 private key (PEM) that signs the image");
  command->add_flag("-q,--quiet", options.quiet, "print errors only");
}

void add_build(CLI::App& app, pyram::builder::BuildOptions& options, int& code) {
  CLI::App* command = app.add_subcommand(
      "build", "build an image; options not given come from pyram.toml or [tool.pyram] here");
  command->add_option("-o,--output", options.output, "image to write");
  add_packages(command, options);
  command
      ->add_option("--from", options.from,
                   "source of PyPy: debian:SUITE, tar:FILE (a portable build of PyPy) or "
                   "dir:PATH (an installed PyPy)")
      ->capture_default_str();
  command->add_option("--arch", options.architecture,
                      "architecture of the image, amd64 or arm64; default: this machine's "
                      "(qemu-user runs the programs of another one)");
  command->add_option("--keep", options.keep, "pattern of files that no rule may remove");
  command->add_option("--strip", options.strip, "pattern of more files to leave out");
  command->add_option("--rules", options.rules,
                      "file with more rules (see docs/image-building.md)");
  command
      ->add_option("--block-size", options.squash.block_size,
                   "block size of the SquashFS, in bytes")
      ->check(is_block_size)
      ->capture_default_str();
  command->add_option("--level", options.squash.level, "compression level of zstd")
      ->check(is_level)
      ->capture_default_str();
  command->add_flag("!--no-elf-packing", options.pack_elf,
                    "don't change the shared libraries: addresses, relocations, tables, order");
  command->add_flag("--relocatable", options.relocatable,
                    "give no library a fixed address: each start then relocates the "
                    "interpreter, at an unpredictable address");
  command->add_flag("--columns", options.columns,
                    "keep columns in the bytecode (carets in tracebacks of the image's modules)");
  command->add_option("--train", options.trainings,
                      "script whose start the image is optimised for (may be repeated)");
  command->add_flag("!--no-train", options.train,
                    "make no hot list (the files that starts read first)");
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
      app.add_subcommand("app", "make an image of a project, with everything that serves it");
  options.project = ".";
  command->add_option("PROJECT", options.project, "directory of the project")
      ->capture_default_str();
  command->add_option("-o,--output", options.build.output, "image to write");
  command->add_option(
      "--app", options.application,
      "WSGI or ASGI application, MODULE:CALLABLE; default: that of Django's settings");
  command->add_option(
      "--script", options.script,
      "script of the project that the image runs, instead of serving an application");
  command->add_option("--settings", options.settings,
                      "Django's settings module; default: the one that manage.py names");
  command->add_option("--env", options.environment,
                      "NAME=VALUE for the project during the build; not put into the image");
  command->add_option(
      "--urls", options.urls,
      "list of paths or an access log: the requests of the training and the warm-up");
  command->add_option("--keep", options.keep, "pattern of files that no rule may leave out");
  command->add_option("--rules", options.rules, "file with more rules (see docs/serving.md)");
  command->add_flag("--list", options.list,
                    "only list the files that would be left out, with the rules");
  command->add_option("--from", options.build.from, "source of PyPy, as for `build`")
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
      app.add_subcommand("train", "make a new image, laid out for the start of a script");
  command->add_option("IMAGE", options.image, "image: a file or a name")->required();
  command->add_option("-o,--output", options.output, "new image to write")->required();
  command->add_option("SCRIPT", options.program, "script and its arguments, after --")->required();
  command->add_option("--level", options.level, "compression level of zstd")
      ->check(is_level)
      ->capture_default_str();
  command->callback([&options, &code] {
    options.image = image_file(options.image.native());
    code = pyram::builder::train_image(options);
  });
}

void add_info(CLI::App& app, InfoOptions& options) {
  CLI::App* info = app.add_subcommand("info", "show what an image contains");
  info->add_option("IMAGE", options.image, "image: a file or a name")->required();
  info->add_flag("--json", options.json, "as JSON: the manifest, and facts about the file");
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
  CLI::App* verify = app.add_subcommand("verify", "check an image's integrity and signature");
  verify->add_option("IMAGE", options.image, "image: a file or a name")->required();
  verify->add_option("--key", options.key, "require a signature of this Ed25519 public key (PEM)");
  verify->callback([&options] {
    print(pyram::builder::verify_image(image(options), pyram::builder::keys_of(options.key)));
  });
  CLI::App* sign = app.add_subcommand("sign", "sign an image");
  sign->add_option("IMAGE", options.image, "image: a file or a name")->required();
  sign->add_option("--key", options.key, "an Ed25519 private key (PEM)")->required();
  sign->callback([&options] { print(pyram::builder::sign_image(image(options), options.key)); });
}

void add_bundle(CLI::App& app, pyram::builder::BundleOptions& options, int& code) {
  CLI::App* command =
      app.add_subcommand("bundle", "make one executable of an image and the programs that run it");
  command->add_option("IMAGE", options.image, "image: a file or a name")->required();
  command->add_option("-o,--output", options.output, "executable to write")->required();
  command->add_option("--script", options.application,
                      "program that it runs: a script, or a directory with a __main__.py");
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
  CLI::App* list = app.add_subcommand("list", "list the images that have a name or were pulled");
  list->add_flag("--json", options.json, "as JSON");
  list->callback([&options] { print(pyram::builder::list_images(options.json)); });

  CLI::App* install =
      app.add_subcommand("install", "give an image a name, for all users or for you");
  pyram::builder::InstallOptions& wanted = options.install;
  install->add_option("IMAGE", wanted.image, "a file, or the name of an image in another directory")
      ->required();
  install->add_option("--name", wanted.name, "name of the image; default: the file's name");
  install->add_option("--key", wanted.key, "require a signature of this Ed25519 public key (PEM)");
  install->add_flag("--user", wanted.user, "only for you, even if you are root");
  install->add_flag("--restart", wanted.restart,
                    "restart pyram-mount@NAME.service if it mounts the replaced image");
  install->callback([&wanted] { print(pyram::builder::install_image(wanted)); });

  CLI::App* remove = app.add_subcommand("remove", "remove an image that has a name or was pulled");
  remove->add_option("NAME", options.removed, "name or reference of the image")->required();
  remove->callback([&options] {
    print(pyram::parse_image_reference(options.removed)
              ? pyram::registry::remove_pulled(options.removed)
              : pyram::builder::remove_image(options.removed));
  });
}

void add_outdated(CLI::App& app, pyram::builder::OutdatedOptions& options, std::string& name,
                  int& code) {
  CLI::App* command = app.add_subcommand(
      "outdated", "show which of an image's packages are newer in Debian; exit code 10 if any are");
  command->add_option("IMAGE", name, "image: a file or a name")->capture_default_str();
  command
      ->add_option("--mirror", options.mirror,
                   "Debian mirror; default: the machine's own, or deb.debian.org")
      ->envname("PYRAM_DEBIAN_MIRROR");
  command->add_option("--cache-dir", options.cache, "directory for lists of packages")
      ->capture_default_str();
  command->add_flag("--json", options.json, "as JSON");
  command->add_flag("-q,--quiet", options.quiet, "print nothing if nothing is newer");
  command->callback([&options, &name, &code] {
    options.image = image_file(name);
    code = pyram::builder::list_outdated(options);
  });
}

// What decides how servers are spoken to, for `push` and `pull`.
void add_session(CLI::App* command, pyram::registry::SessionOptions& options, bool& quiet) {
  command->add_flag("--plain-http", options.plain_http,
                    "use no TLS, for a registry on this machine");
  command
      ->add_option("--ca-file", options.http.certificates,
                   "certificates (PEM) that authenticate the server; default: the system's")
      ->envname("SSL_CERT_FILE");
  command
      ->add_option_function<unsigned>(
          "--timeout",
          [&options](unsigned seconds) { options.http.patience = std::chrono::seconds(seconds); },
          "seconds that a server may send nothing (default: 30)")
      ->check(CLI::Range(1, 3600));
  command->add_option("--retries", options.retries, "how often a failed request is repeated")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  command->add_flag("-q,--quiet", quiet, "print errors only");
}

struct PushWords {
  pyram::registry::PushOptions options;
  std::vector<std::string> words;
};

void add_push(CLI::App& app, PushWords& push) {
  CLI::App* command = app.add_subcommand("push", "upload images to a registry");
  command
      ->add_option("IMAGE", push.words,
                   "image (or one for each processor), then HOST/REPOSITORY:TAG")
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

void add_blocks(CLI::App& app, InfoOptions& options, std::string& output) {
  CLI::App* command = app.add_subcommand(
      "blocks", "write the table of blocks that lets pull reuse old images, for an image at a URL");
  command->add_option("IMAGE", options.image, "image: a file or a name")->required();
  command->add_option("-o,--output", output, "file to write; default: IMAGE.blocks");
  command->callback([&options, &output] {
    const std::string file = image(options);
    print(pyram::registry::write_block_table(file, output.empty() ? file + ".blocks" : output));
  });
}

void add_pull(CLI::App& app, pyram::registry::PullOptions& options) {
  CLI::App* command =
      app.add_subcommand("pull", "download an image from a registry or a URL, and check it");
  command->add_option("SOURCE", options.source, "HOST/REPOSITORY:TAG, or a URL")->required();
  command->add_option("-o,--output", options.output,
                      "file to write; default: the store, where pyram --image finds it");
  command->add_option("--digest", options.digest,
                      "expected digest, for a URL: sha256:..., as pyram-image info shows it");
  command->add_option("--key", options.keys,
                      "require a signature of this Ed25519 public key (PEM); default: of those in "
                      "/etc/pyram/trust.d");
  command->add_option("--from", options.from,
                      "older image whose blocks are reused instead of downloaded, in addition to "
                      "pulled ones (may be repeated)");
  command->add_option("--arch", options.architecture,
                      "processor, amd64 or arm64; default: this machine's");
  command->add_flag("--lazy", options.lazy,
                    "return when the image can be used; another process downloads the rest");
  command
      ->add_option(
          "--rate", options.rate,
          "with --lazy: bytes per second for what no program waits for (512K, 8M; 0: no limit)")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("8M");
  add_session(command, options.session, options.quiet);
  command->callback([&options] {
    for (auto& old : options.from) old = image_file(old.native());
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
    std::string table;
    add_blocks(app, info, table);
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
