#include "fusefs/image/extract.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fusefs/image/extent.h"
#include "fusefs/image/image.h"
#include "fusefs/image/tree_walk.h"
#include "support/error.h"
#include "support/locks.h"
#include "support/memory_groups.h"
#include "support/unique_fd.h"

namespace pyram {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPage = 4096;

Error cannot(const char* what, const fs::path& path) {
  return system_error(ExitCode::kCannotWrite, errno, what + quote(path.native()));
}

// What is wrong with the image, and with which of its files.
Error of_file(const Error& error, const std::string& path) {
  if (error.code() != ExitCode::kBadImage && error.code() != ExitCode::kVerification) return error;
  return {error.code(), "cannot read " + quote(path) + ": " + error.what(), error.error_number()};
}

timespec time_of(const Attributes& attributes) {
  return {static_cast<time_t>(attributes.mtime), 0};
}

// What is still to be done once the tree stands.
struct File {
  fs::path path;
  InodeRef inode;
  Attributes attributes;
};
struct Directory {
  fs::path path;
  Attributes attributes;
};
struct HardLink {
  fs::path existing;
  fs::path added;
};

struct Plan {
  std::vector<File> files;
  std::vector<Directory> directories;  // Parents before children.
  std::vector<HardLink> hard_links;
  std::uint64_t bytes = 0;  // In whole pages, as tmpfs counts.
};

// Makes directories and symbolic links, and lists the rest. A name that occurs twice is an error of
// mkdir, symlink or open (O_EXCL): so nothing is ever written through a link of the image's own.
class Planner {
 public:
  explicit Planner(const Image& image) : image_(image) {}

  Plan plan(const fs::path& root) {
    make_directory(root, image_.attributes(image_.root()));
    walk_tree(image_, [&](const TreeEntry& found) {
      if (found.is_repeated) {
        throw Error(ExitCode::kBadImage, "the image " + image_.name() +
                                             " is corrupt: the directory " + quote(found.path) +
                                             " lies in two places; copy or build it again");
      }
      try {
        add(root / found.path, found.entry);
      } catch (const Error& error) {
        throw of_file(error, found.path);
      }
      return true;
    });
    return std::move(plan_);
  }

 private:
  void make_directory(const fs::path& path, const Attributes& attributes) {
    if (::mkdir(path.c_str(), 0700) != 0) throw cannot("make the directory ", path);
    plan_.directories.push_back({path, attributes});
    plan_.bytes += kPage;
  }

  void add(const fs::path& path, const DirectoryEntry& entry) {
    const Attributes attributes = image_.attributes(entry);
    if (S_ISDIR(entry.type)) {
      make_directory(path, attributes);
    } else if (S_ISLNK(entry.type)) {
      const timespec time = time_of(attributes);
      const timespec times[2] = {time, time};
      if (::symlink(image_.link_target(entry.inode).c_str(), path.c_str()) != 0 ||
          ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
        throw cannot("make the link ", path);
      }
    } else if (S_ISREG(entry.type)) {
      add_file({path, entry.inode, attributes});
    }
  }

  void add_file(File file) {
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
  std::unordered_map<std::uint64_t, fs::path> first_names_;
};

// Writes files, one after the other. One for each thread.
class Writer {
 public:
  explicit Writer(const Image& image)
      : image_(image),
        block_(image.superblock().block_size),
        fragment_(image.superblock().block_size) {}

  void write(const File& file) {
    const UniqueFd fd(
        ::open(file.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) throw cannot("create ", file.path);
    // Holes, and an all-zero end, are then there already.
    if (::ftruncate(fd.get(), static_cast<off_t>(file.attributes.size)) != 0) {
      throw cannot("write ", file.path);
    }
    try {
      write_content(fd.get(), file);
    } catch (const Error& error) {
      throw of_file(error, file.path.native());
    }
    const timespec times[2] = {time_of(file.attributes), time_of(file.attributes)};
    if (::fchmod(fd.get(), file.attributes.mode & 0777) != 0 || ::futimens(fd.get(), times) != 0) {
      throw cannot("write ", file.path);
    }
  }

 private:
  void write_content(int fd, const File& file) {
    if (file.attributes.size == 0) return;
    FileMap map = image_.file_map(file.inode, 0);
    for (std::uint64_t done = 0; done < map.file_size;) {
      if (!covers(map, done)) map = image_.file_map(file.inode, done / map.block_size);
      const Extent extent = extent_at(map, done);
      if (!extent.block.is_hole()) put(fd, bytes_of(extent, block_of(extent)), done, file);
      done += extent.length;
    }
  }

  std::span<const std::byte> block_of(const Extent& extent) {
    if (extent.is_whole_block()) {
      return std::span(block_).first(image_.read_block(extent.block, block_));
    }
    // Neighbours share a fragment block.
    if (fragment_position_ != extent.block.position) {
      fragment_position_.reset();
      fragment_length_ = image_.read_block(extent.block, fragment_);
      fragment_position_ = extent.block.position;
    }
    return std::span(fragment_).first(fragment_length_);
  }

  static void put(int fd, std::span<const std::byte> bytes, std::uint64_t offset,
                  const File& file) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw cannot("write ", file.path);
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
  }

  const Image& image_;
  std::vector<std::byte> block_;
  std::vector<std::byte> fragment_;
  std::optional<std::uint64_t> fragment_position_;
  std::size_t fragment_length_ = 0;
};

unsigned threads_of_machine() {
  constexpr unsigned kMost = 8;
  return std::clamp(std::thread::hardware_concurrency(), 1U, kMost);
}

void write_files(const Image& image, const std::vector<File>& files, unsigned threads) {
  // Neighbours in the image go to one thread, which then has their fragment block at hand.
  constexpr std::size_t kBatch = 16;
  std::atomic<std::size_t> next{0};
  Mutex mutex;  // Guards failure.
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      Writer writer(image);
      for (std::size_t begin = next.fetch_add(kBatch); begin < files.size();
           begin = next.fetch_add(kBatch)) {
        const std::size_t end = std::min(begin + kBatch, files.size());
        for (std::size_t i = begin; i < end; ++i) writer.write(files[i]);
      }
    } catch (...) {
      const Lock lock(mutex);
      if (!failure) failure = std::current_exception();
      next = files.size();
    }
  };
  {
    std::vector<std::jthread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

void check_room(const fs::path& directory, std::uint64_t needed, std::uint64_t reserve) {
  struct statfs status {};
  if (::statfs(directory.c_str(), &status) != 0) throw cannot("look at ", directory);
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

void finish(const Plan& plan) {
  for (const HardLink& link : plan.hard_links) {
    if (::link(link.existing.c_str(), link.added.c_str()) != 0) throw cannot("link ", link.added);
  }
  // Children first: what is done in a directory changes its time.
  // clang 14 doesn't know the library's reversed views. NOLINTNEXTLINE(modernize-loop-convert)
  for (auto directory = plan.directories.rbegin(); directory != plan.directories.rend();
       ++directory) {
    const timespec times[2] = {time_of(directory->attributes), time_of(directory->attributes)};
    // Its owner has to be able to remove it again.
    const mode_t mode = (directory->attributes.mode & 0777) | S_IRWXU;
    if (::chmod(directory->path.c_str(), mode) != 0 ||
        ::utimensat(AT_FDCWD, directory->path.c_str(), times, 0) != 0) {
      throw cannot("write ", directory->path);
    }
  }
}

}  // namespace

void extract_image(const fs::path& image_path, std::uint64_t offset, Image::Verify verify,
                   const fs::path& directory, unsigned threads, std::uint64_t reserve) {
  const std::unique_ptr<Image> image = Image::open(image_path, offset, verify);
  fs::path partial = directory;
  partial += ".partial";
  std::error_code ignored;
  fs::remove_all(partial, ignored);
  try {
    const Plan plan = Planner(*image).plan(partial);
    check_room(partial, plan.bytes, reserve);
    write_files(*image, plan.files, threads != 0 ? threads : threads_of_machine());
    finish(plan);
    if (::rename(partial.c_str(), directory.c_str()) != 0) throw cannot("create ", directory);
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
}

}  // namespace pyram
