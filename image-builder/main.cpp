// pyram-image: makes, shows and checks images. The command line; the work is in the library.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "image-builder/build.h"
#include "image-builder/info.h"
#include "support/error.h"
#include "support/io.h"

namespace {

using pyram::ExitCode;

struct InfoOptions {
  std::string image;
  std::string other;
  bool json = false;
};

void print(const std::string& text) { pyram::write_full(STDOUT_FILENO, text, "standard output"); }

void add_build(CLI::App& app, pyram::builder::BuildOptions& options, int& code) {
  CLI::App* command = app.add_subcommand("build", "make an image");
  command->add_option("-o,--output", options.output, "the image to write")->required();
  command
      ->add_option("--from", options.from,
                   "what to make it of: debian:SUITE, tar:FILE (a portable build of PyPy) or "
                   "dir:PATH (an installed PyPy)")
      ->capture_default_str();
  command
      ->add_option("--mirror", options.mirror,
                   "Debian mirror; otherwise the machine's own, or deb.debian.org")
      ->envname("PYRAM_DEBIAN_MIRROR");
  command->add_option("--cache-dir", options.cache, "where downloaded packages are kept")
      ->capture_default_str();
  command->add_option("--work-dir", options.work_dir,
                      "where intermediate files go; otherwise $TMPDIR, or beside the output");
  command->add_option("--keep", options.keep, "a pattern of files that no rule may remove");
  command->add_option("--strip", options.strip, "a pattern of more files to leave out");
  command->add_option("--rules", options.rules,
                      "a file with more rules (see docs/image-building.md)");
  command->add_option("--block-size", options.squash.block_size, "of the SquashFS, in bytes")
      ->capture_default_str();
  command->add_option("--level", options.squash.level, "compression level of zstd")
      ->check(CLI::Range(1, 22))
      ->capture_default_str();
  command->add_flag("!--no-elf-packing", options.pack_elf,
                    "leave the shared libraries' relocations as they are");
  command->add_flag("-q,--quiet", options.quiet, "print errors only");
  command->callback([&options, &code] { code = pyram::builder::build_image(options); });
}

void add_info(CLI::App& app, InfoOptions& options) {
  CLI::App* info = app.add_subcommand("info", "show what an image holds");
  info->add_option("IMAGE", options.image, "the image")->required();
  info->add_flag("--json", options.json, "for programs: the manifest and the file's own facts");
  info->callback(
      [&options] { print(pyram::builder::describe_image(options.image, options.json)); });

  CLI::App* diff = app.add_subcommand("diff", "show what differs between two images");
  diff->add_option("OLD", options.image, "an image")->required();
  diff->add_option("NEW", options.other, "another")->required();
  diff->callback(
      [&options] { print(pyram::builder::compare_images(options.image, options.other)); });
}

}  // namespace

int main(int argc, char** argv) {
  pyram::ensure_standard_descriptors();
  int code = 0;
  try {
    CLI::App app{"Makes, shows and checks images for pyram."};
    app.set_version_flag("--version", "pyram-image " PYRAM_VERSION);
    app.require_subcommand(1);
    pyram::builder::BuildOptions build;
    build.cache = pyram::builder::default_cache();
    add_build(app, build, code);
    InfoOptions info;
    add_info(app, info);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& wanted) {
      return app.exit(wanted);  // --help and --version
    } catch (const CLI::ParseError& error) {
      std::fprintf(stderr, "pyram-image: %s; see pyram-image --help\n", error.what());
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
