#include "image-builder/build.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "image-builder/app/layer.h"
#include "image-builder/elf/improve.h"
#include "image-builder/embedded.h"
#include "image-builder/emulator.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output/manifest.h"
#include "image-builder/output/sbom.h"
#include "image-builder/output_file.h"
#include "image-builder/progress.h"
#include "image-builder/scratch_job.h"
#include "image-builder/sources/source.h"
#include "image-builder/train/train.h"
#include "image-builder/tree/bytecode.h"
#include "image-builder/tree/layout.h"
#include "image-builder/tree/licences.h"
#include "image-builder/tree/packages.h"
#include "image-builder/tree/strip_rules.h"
#include "support/amounts.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/io.h"
#include "support/process.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr char kServe[] = "bin/serve";
constexpr std::size_t kPhases = 8;  // Of a debian: source with packages; others have fewer.

constexpr std::string_view kDebian = "debian:";

// PyPy for this machine, from the suite that is named, without further packages.
DebianRequest debian_request(const BuildOptions& options) {
  DebianRequest request;
  request.suite = options.from.substr(kDebian.size());
  request.mirror = options.mirror;
  request.cache = options.cache.empty() ? fs::path() : options.cache / "debian";
  return request;
}

SourceTree get_source(const BuildOptions& options, const Scratch& scratch, Progress& progress) {
  if (options.from.starts_with(kDebian)) {
    DebianRequest request = debian_request(options);
    // The machine's own shares the cache with builds that name none.
    if (options.architecture != own_architecture().debian) {
      request.architecture = options.architecture;
    }
    request.packages = debian_packages(options.packages);
    return fetch_debian(request, scratch.directory, progress);
  }
  if (!debian_packages(options.packages).empty()) {
    throw Error(ExitCode::kUsage, "cannot take " +
                                      quote("debian:" + debian_packages(options.packages).front()) +
                                      " into an image of " + quote(options.from) +
                                      ": Debian's packages go with a debian: source");
  }
  constexpr std::string_view kDirectory = "dir:";
  if (options.from.starts_with(kDirectory))
    return use_directory(options.from.substr(kDirectory.size()));
  constexpr std::string_view kArchive = "tar:";
  if (options.from.starts_with(kArchive)) {
    return use_archive(options.from.substr(kArchive.size()), scratch.directory, progress);
  }
  throw Error(ExitCode::kUsage, "unknown source " + quote(options.from) +
                                    "; write debian:SUITE, tar:FILE or dir:PATH");
}

RuleTable all_rules(const BuildOptions& options) {
  RuleTable table = parse_rules(default_rules(), "the built-in table");
  for (const fs::path& file : options.rules) {
    merge_rules(table, parse_rules(read_file(file), file.native()));
  }
  if (!options.strip.empty()) {
    table.rules.push_back({"command-line", "named with --strip", options.strip});
  }
  table.keep.insert(table.keep.end(), options.keep.begin(), options.keep.end());
  return table;
}

// What pip installed stays, installers too: the user asked for it.
RuleTable rules_for_packages(RuleTable table) {
  std::erase_if(table.rules, [](const StripRule& rule) { return rule.name == "installers"; });
  return table;
}

// The time that everything in the image gets: SOURCE_DATE_EPOCH, or that of the newest file of the
// source, so that a later build of the same packages is the same.
std::int64_t image_time(const ImageTree& image) {
  return source_date_epoch().value_or(image.newest);
}

void report(const std::vector<RuleResult>& rules, const BytecodeResult& bytecode,
            const ImageTree& image, const fs::path& output, const Trailer& trailer) {
  std::printf("%s: %s, Python %s on PyPy %s, %zu modules compiled\n", output.c_str(),
              megabytes(fs::file_size(output)).c_str(), image.facts.python_version.c_str(),
              image.facts.pypy_version.c_str(), bytecode.compiled);
  std::printf("  digest %s%s\n", digest_text(trailer.digest).c_str(),
              trailer.signature ? (", signed by " + key_text(*trailer.signature)).c_str() : "");
  for (const RuleResult& rule : rules) {
    if (rule.files == 0) continue;
    std::printf("  left out %6llu files, %9s: %s\n", static_cast<unsigned long long>(rule.files),
                megabytes(rule.bytes).c_str(), rule.name.c_str());
  }
}

// The program that serves WSGI and ASGI applications, for images with gunicorn; an app's runs a
// script too.
void add_serving(const BuildOptions& options, ImageTree& image) {
  if (image.directories.sites.empty()) return;
  const std::string& site = image.directories.sites.back();
  if (!options.is_layer && !fs::is_directory(image.tree / site / "gunicorn")) return;
  const fs::path package = fs::path(site) / "pyram_serve";
  fs::create_directory(image.tree / package);
  for (const auto& [name, text] : serving_modules()) {
    write_file(image.tree / package / name, text);
  }
  write_file(
      image.tree / kServe,
      "#!/bin/sh\nexec \"$(dirname \"$(readlink -f \"$0\")\")/pypy3\" -m pyram_serve \"$@\"\n");
  fs::permissions(image.tree / kServe, fs::perms{0755});
}

// Starts programs from a hastily compressed image to learn what they read.
Recording train_tree(const BuildOptions& options, const ImageTree& image, SquashOptions squash,
                     const Scratch& scratch, Progress& progress) {
  progress.phase("training");
  const TrainingDirectory directory(scratch.directory);
  std::vector<Training> trainings = standard_trainings(directory.path());
  for (const std::string& script : options.trainings) {
    trainings.push_back({script, {fs::absolute(script).native()}});
  }
  squash.level = 1;
  const fs::path provisional = scratch.directory / "provisional.sqfs";
  Recording recording;
  try {
    make_squashfs(image.tree, provisional, squash);
    recording = record(provisional, trainings, *image.architecture, directory.path());
  } catch (const Error& error) {
    // An image without a hot list is a whole one, if slower to start; one that was to be trained
    // on the user's script isn't.
    const bool mountable =
        error.code() != ExitCode::kNoFuse && error.code() != ExitCode::kMissingTool;
    if (mountable || !options.trainings.empty()) throw;
    progress.note(std::string("not trained: ") + error.what());
    return {};
  }
  fs::remove(provisional);
  if (options.pack_elf) order_by_use(image.tree, recording);
  write_file(image.tree / layout::kHotList, hot_list(recording, image.directories.sites));
  return recording;
}

// pip starts further interpreters by the name that it knows: bin/pypy3.
void check_starts_itself(const ImageTree& image) {
  if (image.architecture == &own_architecture()) return;
  const std::string interpreter = (image.tree / layout::kInterpreter).native();
  if (run({{interpreter, "-c", ""}, {}, {}}).ok()) return;
  throw Error(ExitCode::kMissingTool,
              "cannot install packages by pip for " + std::string(image.architecture->debian) +
                  ": this kernel doesn't start its programs; register qemu-user with binfmt_misc "
                  "(the package qemu-user-static does, where systemd runs)");
}

void check_architecture(const BuildOptions& options, const ImageTree& image) {
  if (options.architecture.empty() || image.architecture->debian == options.architecture) return;
  throw Error(ExitCode::kUsage, "cannot make an image for " + options.architecture + " of " +
                                    quote(options.from) + ": its PyPy is for " +
                                    std::string(image.architecture->debian));
}

// The interpreter that compiles the image's modules: its own, and for another processor than this
// machine's the PyPy of the same version for this one, where the suite has it. Bytecode depends on
// the version only, and an emulated PyPy takes half an hour for what this one does in a minute.
Starter choose_compiler(const BuildOptions& options, const ImageTree& image, const Scratch& scratch,
                        Progress& progress) {
  if (image.architecture == &own_architecture() || !options.from.starts_with(kDebian)) {
    return image.starter;
  }
  const fs::path work = scratch.directory / "compiler";
  fs::create_directory(work);
  Progress silent(1, true);
  try {
    const Starter own = start_in_place(fetch_debian(debian_request(options), work, silent));
    const InterpreterFacts facts = ask(own, work);
    const bool same = facts.pypy_version == image.facts.pypy_version &&
                      facts.python_version == image.facts.python_version &&
                      facts.cache_tag == image.facts.cache_tag;
    if (same) return own;
    progress.note("this machine's PyPy is another version; the emulated one compiles, slowly");
  } catch (const Error& error) {
    if (error.code() != ExitCode::kBadSource) throw;
    progress.note(std::string("the emulated PyPy compiles, slowly: ") + error.what());
  }
  return image.starter;
}

int build_in(const BuildOptions& options, const Scratch& scratch) {
  const RuleTable rules = all_rules(options);
  Progress progress(kPhases, options.quiet);
  SourceTree source = get_source(options, scratch, progress);
  progress.phase("laying out the image");
  ImageTree image = lay_out(source, scratch.directory / "image", scratch.directory);
  check_architecture(options, image);
  SquashOptions squash = options.squash;
  squash.time = image_time(image);
  std::vector<RuleResult> stripped = apply_rules(rules, image.directories, image.tree);
  complete(source, image, scratch.directory);
  if (wants_pip(options.packages)) {
    check_starts_itself(image);
    progress.phase("installing packages");
    install_packages(options.packages, source, image, scratch.directory);
    add_results(stripped, apply_rules(rules_for_packages(rules), image.directories, image.tree));
    add_libraries(source, image);
  }
  add_serving(options, image);
  for (Package& package : source.packages) {
    if (package.version.empty()) package.version = image.facts.pypy_version;
  }
  add_licences(source, image);
  if (options.pack_elf) {
    for (std::string& note : improve_libraries(image.tree, options.relocatable)) {
      image.notes.push_back(std::move(note));
    }
  }
  if (wants_pip(options.packages)) check_extensions(source, image, scratch.directory);
  for (const std::string& note : image.notes) progress.note(note);

  progress.phase("compiling the modules");
  fs::create_directories(image.tree / layout::kMetadata);
  const BytecodeResult bytecode =
      compile_modules(image, choose_compiler(options, image, scratch, progress), scratch.directory,
                      options.columns);
  index_modules(image, squash.time, scratch.directory);

  normalise_modes(image.tree);
  Recording recording;
  if (options.train) recording = train_tree(options, image, squash, scratch, progress);
  const nlohmann::json manifest = make_manifest({source, image, stripped, bytecode, squash.time});
  write_file(image.tree / layout::kManifest, manifest.dump(1) + "\n");
  write_file(image.tree / layout::kSbom, make_sbom(manifest).dump(1) + "\n");

  if (options.is_layer) fs::rename(image.tree / layout::kMetadata, image.tree / kLayerMetadata);

  progress.phase("compressing the image");
  squash.sort_file = scratch.directory / "sort";
  squash.step = [&progress](double done) { progress.step(done); };
  write_file(squash.sort_file, sort_file(image.tree, recording));
  make_squashfs(image.tree, scratch.partial, squash);
  if (options.is_layer) {
    put_in_place(scratch.partial, options.output);
    progress.finish();
    return static_cast<int>(ExitCode::kOk);
  }
  const Trailer trailer = seal(scratch.partial, options.key);
  put_in_place(scratch.partial, options.output);
  progress.finish();
  if (!options.quiet) report(stripped, bytecode, image, options.output, trailer);
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

std::optional<std::int64_t> source_date_epoch() {
  const char* const variable = std::getenv("SOURCE_DATE_EPOCH");
  if (variable == nullptr) return std::nullopt;
  char* end = nullptr;
  const long long value = std::strtoll(variable, &end, 10);
  if (*variable == '\0' || *end != '\0' || value < 0 || value > 0xffffffffLL) {
    throw Error(ExitCode::kUsage, std::string("SOURCE_DATE_EPOCH is ") + quote(variable) +
                                      "; it is a number of seconds since 1970");
  }
  return value;
}

fs::path default_cache() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return fs::path(cache) / "pyram";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return fs::path(home) / ".cache/pyram";
  }
  return {};
}

int build_image(const BuildOptions& given) {
  BuildOptions options = given;
  options.output = fs::absolute(options.output).lexically_normal();
  check_output(options.output);
  // apt takes relative names from its own root.
  if (!options.cache.empty()) options.cache = fs::absolute(options.cache);
  if (!options.architecture.empty()) {
    const Architecture& architecture = architecture_named(options.architecture);
    static_cast<void>(emulator(architecture));  // Throws now, not after a download.
    options.architecture = architecture.debian;
  }
  if (!options.key.empty()) {
    options.key = fs::absolute(options.key);
    check_signing_key(options.key);
  }
  const int code =
      run_scratch_job(choose_work_dir(options.work_dir, options.output), options.output,
                      [&](const Scratch& scratch) { return build_in(options, scratch); });
  remove_training_directory();
  return code;
}

}  // namespace pyram::builder
