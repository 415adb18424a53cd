#include "launcher/extraction.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "launcher/start_daemon.h"
#include "launcher/system.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

std::string name_in(const ImagePlace& place) { return place.name() + ".ram"; }

ExtractionDirectory look_at(const std::string& parent, std::string path, bool shared) {
  ExtractionDirectory result{std::move(path), shared, false, false, 0};
  struct statfs status {};
  if (::statfs(parent.c_str(), &status) != 0) return result;
  result.in_ram = status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
  result.executable = (static_cast<unsigned long>(status.f_flags) & ST_NOEXEC) == 0 &&
                      (static_cast<unsigned long>(status.f_flags) & ST_RDONLY) == 0;
  result.room = static_cast<unsigned long long>(status.f_bavail) *
                static_cast<unsigned long long>(status.f_bsize);
  return result;
}

// Whether an earlier start began to unpack here, and what wrote the files behind it was killed.
bool is_abandoned(const std::string& path) {
  const std::string mark = path + '/' + layout::kUnfinished;
  const UniqueFd fd(::open(mark.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd || ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0) return false;
  // It may just have been finished: then the name is gone.
  struct stat status {};
  return ::fstat(fd.get(), &status) == 0 && status.st_nlink != 0;
}

void remove_tree(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

// The path that the start uses: in the run-time directory itself, a link where the files are
// elsewhere.
void link_into_place(const ImagePlace& place, const std::string& target) {
  const std::string name = name_in(place);
  if (target == place.directory() / name) return;
  ::unlinkat(place.directory().fd(), name.c_str(), 0);
  if (::symlinkat(target.c_str(), place.directory().fd(), name.c_str()) != 0) {
    throw system_error(ExitCode::kLauncherFailed, errno,
                       "write " + quote(place.directory() / name));
  }
}

// Returns when what a start reads is there; the rest follows. What was abandoned is unpacked as a
// whole: then an error of the image is seen by who waits, in place of being met again behind each
// start.
void unpack(std::vector<std::string> command, const std::string& image, const std::string& target) {
  if (is_abandoned(target)) {
    remove_tree(target);
  } else {
    command.emplace_back("--hot-first");
  }
  command.insert(command.end(), {"--", image, target});
  start_daemon(command);
}

}  // namespace

std::vector<ExtractionDirectory> extraction_directories(const RuntimeDirectory& directory) {
  const std::string name = "/pyram-" + std::to_string(::geteuid());
  const bool shared = directory.shared();
  std::vector<ExtractionDirectory> all{look_at(directory.path(), directory.path(), shared)};
  for (const std::string parent : {"/dev/shm", "/tmp"}) {
    if (parent + name != directory.path()) all.push_back(look_at(parent, parent + name, shared));
  }
  std::erase_if(all, [&](const ExtractionDirectory& candidate) {
    return !candidate.executable || (!candidate.in_ram && candidate.path != directory.path());
  });
  std::stable_sort(all.begin(), all.end(), [](const auto& left, const auto& right) {
    return left.in_ram && !right.in_ram;
  });
  return all;
}

std::optional<Root> find_extracted(const ImagePlace& place) {
  const std::string path = place.directory() / name_in(place);
  auto root = open_root(path).root;
  if (root && is_abandoned(path)) return std::nullopt;
  return root;
}

Root extract(const ImagePlace& place, const ChosenImage& image, const Executable& self,
             const std::string& reason) {
  std::vector<std::string> command = daemon_command(self);
  if (image.offset != 0) {
    command.insert(command.end(), {"-o", "offset=" + std::to_string(image.offset)});
  }
  command.emplace_back("--extract");
  std::string failures;
  for (const ExtractionDirectory& candidate : extraction_directories(place.directory())) {
    try {
      const RuntimeDirectory directory =
          RuntimeDirectory::make_at(candidate.path, candidate.shared);
      const std::string target = directory / name_in(place);
      unpack(command, image.path, target);
      Found found = open_root(target);
      if (found.error == ENOENT) {
        remove_tree(target);
        throw_no_interpreter(image);
      }
      if (!found.root)
        throw system_error(ExitCode::kLauncherFailed, found.error, "use " + quote(target));
      link_into_place(place, target);
      print_line(STDERR_FILENO, "pyram: unpacked the image " +
                                    std::string(candidate.in_ram ? "into RAM, " : "on disk, ") +
                                    target + ", as it cannot be mounted here: " + reason);
      return {place.directory() / name_in(place), std::move(found.root->hold)};
    } catch (const Error& error) {
      if (error.code() == ExitCode::kBadImage) throw;
      failures.append(failures.empty() ? "" : "; ").append(error.what());
    }
  }
  if (failures.empty()) failures = "no directory that programs may run from";
  throw Error(ExitCode::kLauncherFailed, failures);
}

}  // namespace pyram::launcher
