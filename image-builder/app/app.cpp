#include "image-builder/app/app.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "fusefs/image/hot_list.h"
#include "fusefs/unpack/extract.h"
#include "image-builder/app/layer.h"
#include "image-builder/app/project_requirements.h"
#include "image-builder/elf/file.h"
#include "image-builder/embedded.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output/manifest.h"
#include "image-builder/output/sbom.h"
#include "image-builder/output/squash.h"
#include "image-builder/output_file.h"
#include "image-builder/progress.h"
#include "image-builder/scratch_job.h"
#include "image-builder/train/train.h"
#include "image-builder/tree/bytecode.h"
#include "image-builder/tree/strip_rules.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/io.h"
#include "support/process.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kPhases = 5;
constexpr std::uint64_t kNoReserve = 0;
constexpr char kProject[] = "app";
constexpr char kStatic[] = "static";
constexpr char kAppFacts[] = ".pyram/app.json";
constexpr char kUrls[] = ".pyram/urls";

RuleTable app_rules_of(const AppOptions& options) {
  RuleTable table = parse_rules(app_rules(), "the built-in table of projects");
  for (const fs::path& file : options.rules) {
    merge_rules(table, parse_rules(read_file(file), file.native()));
  }
  table.keep.insert(table.keep.end(), options.keep.begin(), options.keep.end());
  return table;
}

void check_project(const AppOptions& options) {
  if (!fs::is_directory(options.project)) {
    throw Error(ExitCode::kUsage,
                "there is no project directory " + quote(options.project.native()));
  }
  for (const std::string& variable : options.environment) {
    if (variable.find('=') == std::string::npos || variable.starts_with('=')) {
      throw Error(ExitCode::kUsage, "--env takes NAME=VALUE, not " + quote(variable));
    }
  }
  if (!options.urls.empty() && !fs::is_regular_file(options.urls)) {
    throw Error(ExitCode::kUsage, "there is no list of URLs " + quote(options.urls.native()));
  }
}

// What pip is to install: what the project says, unless files are named, and what serves it.
void add_requirements(const AppOptions& options, PackageRequest& packages) {
  if (packages.requirements.empty()) {
    add_project_requirements(options.project, options.build.cache / "locks", packages);
  }
  if (options.script.empty()) {
    packages.names.insert(packages.names.end(), {"gunicorn", "whitenoise"});
  }
}

std::int64_t newest_file(const fs::path& tree) {
  std::int64_t newest = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(tree)) {
    struct stat status {};
    if (::lstat(entry.path().c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      newest = std::max<std::int64_t>(newest, status.st_mtime);
    }
  }
  return newest;
}

// A build of an app, step by step.
class AppBuild {
 public:
  AppBuild(const AppOptions& options, fs::path layer, const Scratch& scratch)
      : options_(options),
        layer_(std::move(layer)),
        scratch_(scratch),
        progress_(kPhases, options.build.quiet),
        tree_(scratch.directory / "layer"),
        overlay_(scratch.directory / "overlay"),
        starter_{{(tree_ / layout::kInterpreter).native()}} {}

  void run() {
    take_layer();
    take_project();
    look_at_project();
    compile();
    describe();
    train();
    write_image();
  }

 private:
  void take_layer() {
    progress_.phase("unpacking the layer below");
    extract_image({.image = layer_, .directory = tree_, .reserve = kNoReserve});
    const fs::path metadata = tree_ / kLayerMetadata;
    manifest_ =
        parse_manifest(read_file(metadata / "manifest.json"), layer_.native(), ExitCode::kBadImage);
    fs::create_directories(overlay_ / layout::kMetadata);
    for (const fs::directory_entry& entry : fs::directory_iterator(metadata)) {
      copy_content(entry.path(), overlay_ / layout::kMetadata / entry.path().filename());
    }
  }

  void take_project() {
    left_out_ = copy_by_rules(app_rules_of(options_), options_.project, overlay_ / kProject,
                              options_.build.output);
    const auto given = source_date_epoch();
    time_ = given ? *given
                  : std::max(manifest_.at("time").get<std::int64_t>(),
                             newest_file(overlay_ / kProject));
    if (!options_.urls.empty()) copy_content(options_.urls, overlay_ / kUrls);
  }

  // The project's own code runs in a copy, so that what it writes is not in the image.
  void look_at_project() {
    progress_.phase("looking at the project");
    const fs::path copy = scratch_.directory / "run";
    fs::copy(overlay_ / kProject, copy,
             fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    const nlohmann::json order = {{"project", copy.native()},
                                  {"name", options_.project.filename().native()},
                                  {"static", (overlay_ / kStatic).native()},
                                  {"application", options_.application},
                                  {"script", options_.script},
                                  {"settings", options_.settings}};
    const fs::path file = scratch_.directory / "order.json";
    write_file(file, order.dump());
    Command command = python_command(starter_, std::string(app_project_program()), {file.native()},
                                     scratch_.directory);
    command.environment->insert(command.environment->end(), options_.environment.begin(),
                                options_.environment.end());
    const Outcome outcome = pyram::run(command);
    if (!outcome.ok()) throw Error(ExitCode::kBadSource, outcome.last_line());
    facts_ = nlohmann::json::parse(outcome.output);
    fs::remove_all(copy);
    write_file(overlay_ / kAppFacts, facts_.dump(1) + "\n");
  }

  void compile() {
    progress_.phase("compiling the project's modules");
    compiled_ = compile_directory(starter_, overlay_, overlay_ / kProject, scratch_.directory);
    normalise_modes(overlay_);
  }

  void describe() {
    manifest_["time"] = time_;
    manifest_["app"] = facts_;
    for (const RuleResult& rule : left_out_.results) {
      if (rule.files == 0) continue;
      manifest_["stripped"].push_back(rule_entry(rule));
      manifest_["stripped"].back()["rule"] = "app-" + rule.name;
    }
    add_files(manifest_["files"], overlay_);
    write_file(overlay_ / layout::kManifest, manifest_.dump(1) + "\n");
    write_file(overlay_ / layout::kSbom, make_sbom(manifest_).dump(1) + "\n");
  }

  // What the layer's hot list has, and then what the application's start reads of modules and other
  // files. Not what it reads of libraries: those pages differ from run to run, and the layer was
  // trained for them.
  void train() {
    progress_.phase("training on the project's start");
    const fs::path list = overlay_ / layout::kHotList;
    if (!options_.script.empty() || !fs::exists(list)) return;
    const TrainingDirectory directory(scratch_.directory);
    const Training training{
        "the application", {"-m", "pyram_serve", "--train"}, false, options_.environment};
    const fs::path provisional = scratch_.directory / "provisional.sqfs";
    try {
      copy_content(layer_, provisional);
      append_to_squashfs(overlay_, provisional, time_);
      Recording recording;
      for (const HotGroup& group : parse_hot_list(read_file(list))) {
        recording.push_back(group.ranges);
      }
      Recording own = record(provisional, {training}, own_architecture(), directory.path());
      std::erase_if(own.front(), [&](const HotRange& range) {
        return fs::exists(tree_ / range.path) && is_elf(tree_ / range.path);
      });
      recording.push_back(std::move(own.front()));
      const auto sites = manifest_.at("python").at("sites").get<std::vector<std::string>>();
      write_file(list, hot_list(recording, sites));
    } catch (const Error& error) {
      // The layer's own hot list stays.
      progress_.note(std::string("not trained: ") + error.what());
    }
    fs::remove(provisional);
  }

  void write_image() {
    progress_.phase("writing the image");
    copy_content(layer_, scratch_.partial);
    append_to_squashfs(overlay_, scratch_.partial, time_);
    const Trailer trailer = seal(scratch_.partial, options_.build.key);
    put_in_place(scratch_.partial, options_.build.output);
    progress_.finish();
    if (!options_.build.quiet) report(trailer);
  }

  void report(const Trailer& trailer) const {
    std::printf("%s: %.1f MB, %s, %zu modules of the project compiled\n",
                options_.build.output.c_str(),
                static_cast<double>(fs::file_size(options_.build.output)) / 1e6,
                what_it_serves().c_str(), compiled_.compiled);
    std::printf("  digest %s%s\n", digest_text(trailer.digest).c_str(),
                trailer.signature ? (", signed by " + key_text(*trailer.signature)).c_str() : "");
    constexpr std::size_t kShown = 3;
    for (const RuleResult& rule : left_out_.results) {
      if (rule.files == 0) continue;
      std::string names;
      std::size_t shown = 0;
      for (const auto& [path, name] : left_out_.files) {
        if (name == rule.name && shown++ < kShown) names += ' ' + path;
      }
      std::printf("  left out %6llu files: %s:%s%s\n", static_cast<unsigned long long>(rule.files),
                  rule.name.c_str(), names.c_str(), shown > kShown ? " ..." : "");
    }
  }

  [[nodiscard]] std::string what_it_serves() const {
    const std::string key = facts_.at("kind") == "script" ? "script" : "application";
    return facts_.at(key).get<std::string>();
  }

  const AppOptions& options_;
  const fs::path layer_;
  const Scratch& scratch_;
  Progress progress_;
  const fs::path tree_;
  const fs::path overlay_;
  const Starter starter_;
  nlohmann::json manifest_;
  nlohmann::json facts_;
  LeftOut left_out_;
  BytecodeResult compiled_;
  std::int64_t time_ = 0;
};

// Prints what the rules leave out.
int list_left_out(const AppOptions& options) {
  const fs::path nowhere;
  const LeftOut left_out =
      copy_by_rules(app_rules_of(options), options.project, nowhere, options.build.output);
  for (const auto& [path, rule] : left_out.files) {
    std::printf("%-16s %s\n", rule.c_str(), path.c_str());
  }
  return static_cast<int>(ExitCode::kOk);
}

// The layer's file, which is made where the cache has none.
fs::path layer_file(const AppOptions& options, int& code) {
  BuildOptions build = options.build;
  build.is_layer = true;
  build.key.clear();
  const fs::path directory = options.build.cache / "layers";
  std::error_code ignored;
  if (options.build.cache.empty() || (!fs::create_directories(directory, ignored) && ignored)) {
    throw Error(ExitCode::kCannotWrite,
                "cannot keep the layer of PyPy and packages: there is no cache; "
                "name a directory with --cache-dir");
  }
  add_requirements(options, build.packages);
  const std::string name = layer_key(build) + ".sqfs";
  build.output = fs::absolute(directory / name);
  if (fs::exists(build.output)) {
    if (!build.quiet) std::fprintf(stderr, "PyPy and the packages are those of the last build\n");
  } else {
    code = build_image(build);
  }
  return build.output;
}

}  // namespace

int build_app(const AppOptions& given) {
  AppOptions options = given;
  check_project(options);
  options.project = fs::canonical(options.project);
  options.build.output = fs::absolute(options.build.output).lexically_normal();
  if (options.list) return list_left_out(options);
  check_output(options.build.output);
  if (!options.build.key.empty()) {
    options.build.key = fs::absolute(options.build.key);
    check_signing_key(options.build.key);
  }
  int code = 0;
  const fs::path layer = layer_file(options, code);
  if (code != 0) return code;
  code = run_scratch_job(choose_work_dir(options.build.work_dir, options.build.output),
                         options.build.output, [&](const Scratch& scratch) {
                           AppBuild(options, layer, scratch).run();
                           return static_cast<int>(ExitCode::kOk);
                         });
  remove_training_directory();
  return code;
}

}  // namespace pyram::builder
