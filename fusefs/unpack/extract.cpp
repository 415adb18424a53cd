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

unsigned threads_of(const Extraction& extraction) {
  return extraction.threads != 0 ? extraction.threads : threads_of_machine();
}

void write_all(const Image& image, const Extraction& extraction, const Plan& plan) {
  std::vector<const PlannedFile*> files;
  for (const PlannedFile& file : plan.files) files.push_back(&file);
  write_files(image, plan, threads_of(extraction), files);
}

// What any start reads; empty where the image has no hot list.
std::unordered_set<std::string> hot_paths(const Image& image) {
  std::unordered_set<std::string> paths;
  const auto list = find_path(image, layout::kHotList);
  if (!list) return paths;
  const auto groups = parse_hot_list(read_image_file(image, *list, kHotListLimit));
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

// Files and directories get the permissions that we give them. Of the whole process.
class NoUmask {
 public:
  NoUmask() : before_(::umask(0)) {}
  NoUmask(const NoUmask&) = delete;
  NoUmask& operator=(const NoUmask&) = delete;
  ~NoUmask() { ::umask(before_); }

 private:
  mode_t before_;
};

}  // namespace

void extract_image(const Extraction& extraction) {
  const std::unique_ptr<Image> image =
      Image::open(extraction.image, extraction.offset, extraction.verify);
  const NoUmask no_umask;
  PartialTree tree(extraction.directory);
  const Plan plan = plan_tree(*image, tree.path());
  check_room(tree.path(), plan.bytes, extraction.reserve);
  write_all(*image, extraction, plan);
  finish_tree(plan);
  tree.put_in_place();
}

void extract_hot_first(const Extraction& extraction, const std::function<void()>& usable) {
  const std::unique_ptr<Image> image =
      Image::open(extraction.image, extraction.offset, extraction.verify);
  const NoUmask no_umask;
  PartialTree tree(extraction.directory);
  const Plan plan = plan_tree(*image, tree.path());
  check_room(tree.path(), plan.bytes, extraction.reserve);
  const Halves halves = divide(*image, plan);
  if (halves.later.empty() || !LazyFiles::can_be_had(plan, halves.later.size())) {
    write_all(*image, extraction, plan);
    finish_tree(plan);
    tree.put_in_place();
    usable();
    return;
  }
  const unsigned threads = threads_of(extraction);
  LazyFiles lazy(*image, plan, threads, halves.later);
  write_files(*image, plan, threads, halves.first);
  const UniqueFd mark = mark_unfinished(plan);
  finish_tree(plan);
  tree.put_in_place();
  usable();
  lazy.fill([&] { ::unlinkat(plan.root_fd.get(), layout::kUnfinished, 0); });
}

}  // namespace pyram
