// Training: which parts of an image a start reads, found out by starting.
//
// The image is mounted by `pyram-mount --record`, programs run from it, and what they read becomes
// the hot list (docs/image-format.md) and the order of files in the image.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fusefs/image/hot_list.h"
#include "image-builder/elf/architecture.h"
#include "support/unique_fd.h"

namespace pyram::builder {

// One program to run: words for the interpreter, such as {"-c", "pass"}.
struct Training {
  std::string name;  // For messages.
  std::vector<std::string> words;
  bool standard = false;  // One of ours: it needs nothing of the caller's environment.
  std::vector<std::string> environment{};  // "NAME=value", beside the caller's.
};

// What each training read, in order of first use. The first one is what every start reads.
using Recording = std::vector<std::vector<HotRange>>;

// Where a training's programs and mount are: the same path for every build on every machine, or,
// where that belongs to another user, `otherwise`. A second build waits for the first. Not
// thread-safe.
class TrainingDirectory {
 public:
  explicit TrainingDirectory(std::filesystem::path otherwise);
  ~TrainingDirectory();
  TrainingDirectory(const TrainingDirectory&) = delete;
  TrainingDirectory& operator=(const TrainingDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  UniqueFd lock_;
};

// Removes the directory where a build that was killed has left it. Does nothing when it is in use.
void remove_training_directory() noexcept;

// What the default image is trained on; scripts are written into `work`.
[[nodiscard]] std::vector<Training> standard_trainings(const std::filesystem::path& work);

// Mounts the image below `work` once for each training and runs it, through an emulator where the
// image is for another processor. The same image and programs
// give the same recording: they run without address randomisation, with a fixed hash seed, in an
// environment of their own and on one processor. `work` is a TrainingDirectory's.
// Throws Error: kNoFuse and kMissingTool where nothing can be mounted, kFailed when a program
// fails.
[[nodiscard]] Recording record(const std::filesystem::path& image,
                               const std::vector<Training>& trainings,
                               const Architecture& architecture, const std::filesystem::path& work);

// Lays out the pages of large ELF files in `tree` by what was read of them (elf/order.h), and has
// the recording say the same of the new files. Returns their paths, relative to the tree.
std::vector<std::string> order_by_use(const std::filesystem::path& tree, Recording& recording);

// The text of .pyram/hot. `sites` are the directories of packages: the first file read there is
// what a group waits for.
[[nodiscard]] std::string hot_list(const Recording& recording,
                                   const std::vector<std::string>& sites);

// mksquashfs's sort file for a tree: hot files in start order, then the others so that what is like
// each other lies side by side, which compresses better.
[[nodiscard]] std::string sort_file(const std::filesystem::path& tree, const Recording& recording);

struct TrainOptions {
  std::filesystem::path image;
  std::filesystem::path output;
  std::vector<std::string> program;  // SCRIPT [ARG]...
  int level = 19;
};

// `pyram-image train`: a new image with the standard trainings and the program as its hot list.
// Returns the program's exit code, as build_image().
[[nodiscard]] int train_image(const TrainOptions& options);

}  // namespace pyram::builder
