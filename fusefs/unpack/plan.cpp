#include "fusefs/unpack/plan.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_map>
#include <utility>

#include "fusefs/image/tree_walk.h"

namespace pyram {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPage = 4096;

class Planner {
 public:
  Planner(const Image& image, const fs::path& root) : image_(image) { plan_.root = root; }

  Plan plan() {
    make_root();
    walk_tree(image_, [&](const TreeEntry& found) {
      if (found.is_repeated) {
        throw Error(ExitCode::kBadImage, "the image " + image_.name() +
                                             " is corrupt: the directory " + quote(found.path) +
                                             " lies in two places; copy or build it again");
      }
      try {
        add(found.path, found.entry);
      } catch (const Error& error) {
        throw of_file(error, found.path);
      }
      return true;
    });
    return std::move(plan_);
  }

 private:
  // Its owner has to be able to fill a directory, and to remove it again.
  static mode_t mode_of(const Attributes& directory) { return (directory.mode & 0777) | S_IRWXU; }

  void make_root() {
    const Attributes attributes = image_.attributes(image_.root());
    if (::mkdir(plan_.root.c_str(), mode_of(attributes)) != 0) {
      throw plan_.cannot("make the directory ", {});
    }
    plan_.root_fd.reset(::open(plan_.root.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!plan_.root_fd) throw plan_.cannot("open ", {});
    plan_.directories.push_back({".", attributes});
    plan_.bytes += kPage;
  }

  void make_directory(const std::string& path, const Attributes& attributes) {
    if (::mkdirat(plan_.root_fd.get(), path.c_str(), mode_of(attributes)) != 0) {
      throw plan_.cannot("make the directory ", path);
    }
    plan_.directories.push_back({path, attributes});
    plan_.bytes += kPage;
  }

  void make_link(const std::string& path, InodeRef inode, const Attributes& attributes) {
    const Times times(attributes);
    const int root = plan_.root_fd.get();
    if (::symlinkat(image_.link_target(inode).c_str(), root, path.c_str()) != 0 ||
        ::utimensat(root, path.c_str(), times.values, AT_SYMLINK_NOFOLLOW) != 0) {
      throw plan_.cannot("make the link ", path);
    }
  }

  void add(const std::string& path, const DirectoryEntry& entry) {
    const Attributes attributes = image_.attributes(entry);
    if (S_ISDIR(entry.type)) {
      make_directory(path, attributes);
    } else if (S_ISLNK(entry.type)) {
      make_link(path, entry.inode, attributes);
    } else if (S_ISREG(entry.type)) {
      add_file({path, entry.inode, attributes});
    }
  }

  void add_file(PlannedFile file) {
    if (file.attributes.nlink > 1) {
      const auto [first, is_new] = first_names_.emplace(file.inode.value, file.path);
      if (!is_new) {
        plan_.hard_links.push_back({first->second, std::move(file.path)});
        return;
      }
    }
    plan_.bytes += (file.attributes.data_bytes + kPage - 1) / kPage * kPage + kPage / 4;
    plan_.files.push_back(std::move(file));
  }

  const Image& image_;
  Plan plan_;
  std::unordered_map<std::uint64_t, std::string> first_names_;
};

}  // namespace

Times::Times(const Attributes& attributes)
    : values{{static_cast<time_t>(attributes.mtime), 0},
             {static_cast<time_t>(attributes.mtime), 0}} {}

Error Plan::cannot(const char* what, const std::string& path) const {
  const int error = errno;
  return system_error(ExitCode::kCannotWrite, error,
                      what + quote(path.empty() ? root.native() : (root / path).native()));
}

Error of_file(const Error& error, const std::string& path) {
  if (error.code() != ExitCode::kBadImage && error.code() != ExitCode::kVerification) return error;
  return {error.code(), "cannot read " + quote(path) + ": " + error.what(), error.error_number()};
}

Plan plan_tree(const Image& image, const fs::path& root) { return Planner(image, root).plan(); }

void finish_tree(const Plan& plan) {
  const int root = plan.root_fd.get();
  for (const PlannedHardLink& link : plan.hard_links) {
    if (::linkat(root, link.existing.c_str(), root, link.added.c_str(), 0) != 0) {
      throw plan.cannot("link ", link.added);
    }
  }
  for (const PlannedDirectory& directory : plan.directories) {
    const Times times(directory.attributes);
    if (::utimensat(root, directory.path.c_str(), times.values, 0) != 0) {
      throw plan.cannot("write ", directory.path);
    }
  }
}

}  // namespace pyram
