#include "launcher/extraction.h"

#include <linux/magic.h>
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
  return open_root(place.directory() / name_in(place)).root;
}

Root extract(const ImagePlace& place, const ChosenImage& image, const Executable& self,
             const std::string& reason) {
  std::vector<std::string> command = daemon_command(self);
  if (image.offset != 0) {
    command.insert(command.end(), {"-o", "offset=" + std::to_string(image.offset)});
  }
  command.insert(command.end(), {"--extract", "--", image.path});
  std::string failures;
  for (const ExtractionDirectory& candidate : extraction_directories(place.directory())) {
    try {
      const RuntimeDirectory directory =
          RuntimeDirectory::make_at(candidate.path, candidate.shared);
      const std::string target = directory / name_in(place);
      std::vector<std::string> all = command;
      all.push_back(target);
      start_daemon(all);
      Found found = open_root(target);
      if (found.error == ENOENT) {
        std::error_code ignored;
        std::filesystem::remove_all(target, ignored);
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
