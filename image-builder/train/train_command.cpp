// `pyram-image train`.
#include <nlohmann/json.hpp>

#include "fusefs/image/image.h"
#include "fusefs/unpack/extract.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output/manifest.h"
#include "image-builder/output/squash.h"
#include "image-builder/output_file.h"
#include "image-builder/progress.h"
#include "image-builder/scratch_job.h"
#include "image-builder/train/train.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/io.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kPhases = 3;
constexpr std::uint64_t kNoReserve = 0;

int train_in(const TrainOptions& options, const Scratch& scratch) {
  Progress progress(kPhases, false);
  const auto image = Image::open(options.image);
  const std::string name = options.image.native();
  nlohmann::json manifest = parse_manifest(read_manifest(*image), name, ExitCode::kBadImage);
  const auto sites = read_or_refuse(name, ExitCode::kBadImage, [&] {
    return manifest.at("python").at("sites").get<std::vector<std::string>>();
  });
  const auto platform = read_or_refuse(name, ExitCode::kBadImage, [&] {
    return manifest.at("python").at("platform").get<std::string>();  // "linux-x86_64"
  });
  const Architecture& architecture = architecture_named(platform.substr(platform.find('-') + 1));
  progress.phase("running " + quote(options.program.front()));
  const TrainingDirectory directory(scratch.directory);
  std::vector<Training> trainings = standard_trainings(directory.path());
  trainings.push_back({options.program.front(), options.program});
  Recording recording = record(options.image, trainings, architecture, directory.path());

  progress.phase("unpacking the image");
  const fs::path tree = scratch.directory / "image";
  extract_image({.image = options.image, .directory = tree, .reserve = kNoReserve});
  fs::remove(tree / layout::kUnpacked);
  for (const std::string& path : order_by_use(tree, recording)) {
    manifest["files"][path].update(file_entry(tree / path));
  }
  write_file(tree / layout::kManifest, manifest.dump(1) + "\n");
  write_file(tree / layout::kHotList, hot_list(recording, sites));

  progress.phase("compressing the image");
  SquashOptions squash;
  squash.compressor = compression_name(image->superblock().compression);
  squash.level = options.level;
  squash.block_size = image->superblock().block_size;
  squash.time = image->superblock().creation_time;
  squash.sort_file = scratch.directory / "sort";
  squash.step = [&progress](double done) { progress.step(done); };
  write_file(squash.sort_file, sort_file(tree, recording));
  make_squashfs(tree, scratch.partial, squash);
  seal(scratch.partial, {});
  put_in_place(scratch.partial, options.output);
  progress.finish();
  return static_cast<int>(ExitCode::kOk);
}

}  // namespace

int train_image(const TrainOptions& given) {
  TrainOptions options = given;
  options.image = fs::absolute(options.image);
  options.output = fs::absolute(options.output).lexically_normal();
  check_output(options.output);
  static_cast<void>(Image::open(options.image));
  const int code =
      run_scratch_job(choose_work_dir({}, options.output), options.output,
                      [&](const Scratch& scratch) { return train_in(options, scratch); });
  remove_training_directory();
  return code;
}

}  // namespace pyram::builder
