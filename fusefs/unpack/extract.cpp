#include "fusefs/unpack/extract.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "fusefs/image/hot_list.h"
#include "fusefs/unpack/lazy_files.h"
#include "fusefs/unpack/parallel_writer.h"
#include "fusefs/unpack/plan.h"
#include "support/error.h"
#include "support/exact_modes.h"
#include "support/image_layout.h"
#include "support/memory_groups.h"
#include "support/unique_fd.h"

namespace pyram {
namespace {

namespace fs = std::filesystem;

void check_room(const fs::path& directory, std::uint64_t needed, std::uint64_t reserve) {
  struct statfs status {};
  if (::statfs(directory.c_str(), &status) != 0)
    throw system_error(ExitCode::kCannotWrite, errno, "look at " + quote(directory.native()));
  const std::uint64_t room =
      static_cast<std::uint64_t>(status.f_bavail) * static_cast<std::uint64_t>(status.f_bsize);
  const auto in_mib = [](std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  std::string problem;
  if (needed > room) problem = in_mib(room) + " are free there";
  const bool in_ram = status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
  if (in_ram && problem.empty()) {
    const std::uint64_t memory = available_memory();
    if (memory < reserve || needed > memory - reserve) {
      problem = in_mib(memory) + " of memory are available, of which " + in_mib(reserve) +
                " are left to the program";
    }
  }
  if (problem.empty()) return;
  throw Error(ExitCode::kCannotWrite,
              "cannot unpack into " + quote(directory.parent_path().native()) + ": it takes " +
                  in_mib(needed) + ", and " + problem,
              ENOSPC);
}

// The content on its way to its place. What is there is removed, unless it got there.
class PartialTree {
 public:
  explicit PartialTree(const fs::path& directory) : directory_(directory), path_(directory) {
    path_ += ".partial";
    remove();
  }
  PartialTree(const PartialTree&) = delete;
  PartialTree& operator=(const PartialTree&) = delete;
  ~PartialTree() { remove(); }

  [[nodiscard]] const fs::path& path() const { return path_; }

  void put_in_place() {
    if (::rename(path_.c_str(), directory_.c_str()) != 0) {
      throw system_error(ExitCode::kCannotWrite, errno, "create " + quote(directory_.native()));
    }
  }

 private:
  void remove() const {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  const fs::path& directory_;
  fs::path path_;
};

// What any start reads; empty where the image has no hot list.
std::unordered_set<std::string> hot_paths(const Image& image) {
  std::unordered_set<std::string> paths;
  const std::vector<HotGroup> groups = hot_groups(image);
  if (groups.empty()) return paths;
  for (const HotRange& range : groups.front().ranges) paths.insert(range.path);
  return paths;
}

// A file that is open for writing cannot be executed, and lazy files are open. Libraries are not
// executed.
bool may_be_executed(const PlannedFile& file) {
  const std::string_view path = file.path;
  return (file.attributes.mode & 0111) != 0 &&
         path.substr(path.rfind('/') + 1).find(".so") == std::string_view::npos;
}

struct Halves {
  std::vector<const PlannedFile*> first;
  std::vector<const PlannedFile*> later;
};

Halves divide(const Image& image, const Plan& plan) {
  const std::unordered_set<std::string> hot = hot_paths(image);
  Halves halves;
  for (const PlannedFile& file : plan.files) {
    const bool is_first = hot.empty() || file.attributes.size == 0 || may_be_executed(file) ||
                          hot.contains(file.path);
    (is_first ? halves.first : halves.later).push_back(&file);
  }
  return halves;
}

// The locked file that says that the tree is not finished.
UniqueFd mark_unfinished(const Plan& plan) {
  UniqueFd mark(::openat(plan.root_fd.get(), layout::kUnfinished,
                         O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!mark || ::flock(mark.get(), LOCK_EX | LOCK_NB) != 0) {
    throw plan.cannot("create ", layout::kUnfinished);
  }
  return mark;
}

// Has the image's start-up code look whether sources were edited. What we cannot create because the
// image has something of that name is left: it was packed out of an unpacked image.
void mark_unpacked(const Plan& plan) {
  const auto index = std::ranges::find(plan.files, layout::kModuleIndex, &PlannedFile::path);
  if (index == plan.files.end()) return;
  const UniqueFd mark(::openat(plan.root_fd.get(), layout::kUnpacked,
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!mark && errno == EEXIST) return;
  const Times times(index->attributes);
  if (!mark || ::futimens(mark.get(), times.values) != 0) {
    throw plan.cannot("create ", layout::kUnpacked);
  }
}

// An image whose tree stands, without its files, under the name that it has until it is in its
// place.
class Unpacking {
 public:
  explicit Unpacking(const Extraction& extraction)
      : threads_(extraction.threads != 0 ? extraction.threads : threads_of_machine()),
        image_(Image::open(extraction.image, extraction.offset, extraction.verify)),
        tree_(extraction.directory),
        plan_(plan_tree(*image_, tree_.path())) {
    check_room(tree_.path(), plan_.bytes, extraction.reserve);
  }

  [[nodiscard]] const Image& image() const { return *image_; }
  [[nodiscard]] const Plan& plan() const { return plan_; }
  [[nodiscard]] unsigned threads() const { return threads_; }

  void write(std::span<const PlannedFile* const> files) const {
    write_files(*image_, plan_, threads_, files);
  }
  void write_all() const {
    std::vector<const PlannedFile*> files;
    for (const PlannedFile& file : plan_.files) files.push_back(&file);
    write(files);
  }
  void put_in_place() {
    mark_unpacked(plan_);
    finish_tree(plan_);
    tree_.put_in_place();
  }

 private:
  const ExactModes exact_modes_;
  const unsigned threads_;
  const std::unique_ptr<Image> image_;
  PartialTree tree_;
  const Plan plan_;
};

}  // namespace

void extract_image(const Extraction& extraction) {
  Unpacking unpacking(extraction);
  unpacking.write_all();
  unpacking.put_in_place();
}

void extract_hot_first(const Extraction& extraction, const std::function<void()>& usable) {
  Unpacking unpacking(extraction);
  const Plan& plan = unpacking.plan();
  const Halves halves = divide(unpacking.image(), plan);
  if (halves.later.empty() || !LazyFiles::can_be_had(plan, halves.later.size())) {
    unpacking.write_all();
    unpacking.put_in_place();
    usable();
    return;
  }
  LazyFiles lazy(unpacking.image(), plan, unpacking.threads(), halves.later);
  unpacking.write(halves.first);
  const UniqueFd mark = mark_unfinished(plan);
  unpacking.put_in_place();
  usable();
  lazy.fill([&] { ::unlinkat(plan.root_fd.get(), layout::kUnfinished, 0); });
}

}  // namespace pyram
