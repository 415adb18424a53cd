// The `tar:` source. The only file that includes libarchive's headers.
//
// An archive may come from anywhere, so nothing in it is trusted: every entry is checked before
// anything is made of it, and symbolic links are made last, so that no entry can be unpacked
// through one.
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "image-builder/digest.h"
#include "image-builder/sources/source.h"
#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

class Unpacker {
 public:
  Unpacker(const fs::path& file, fs::path directory, Progress& progress)
      : file_(file), directory_(std::move(directory)), progress_(progress) {
    std::error_code ignored;
    size_ = fs::file_size(file_, ignored);
    if (!archive_) throw Error(ExitCode::kFailed, "cannot unpack an archive: no memory");
    ::archive_read_support_filter_all(archive_.get());
    ::archive_read_support_format_tar(archive_.get());
    constexpr std::size_t kReadSize = std::size_t{1} << 18;
    if (::archive_read_open_filename(archive_.get(), file_.c_str(), kReadSize) != ARCHIVE_OK) {
      throw unreadable();
    }
  }

  void unpack() {
    fs::create_directories(directory_);
    for (;;) {
      archive_entry* entry = nullptr;
      const int result = ::archive_read_next_header(archive_.get(), &entry);
      if (result == ARCHIVE_EOF) break;
      // A warning may be about a name or a header that we would read wrongly.
      if (result != ARCHIVE_OK) throw unreadable();
      take(entry);
      if (size_ > 0) {
        progress_.step(static_cast<double>(::archive_filter_bytes(archive_.get(), -1)) /
                       static_cast<double>(size_));
      }
    }
    for (const auto& [path, target] : links_) make_link(path, target);
  }

 private:
  struct Free {
    void operator()(archive* handle) const noexcept { ::archive_read_free(handle); }
  };

  [[nodiscard]] Error unreadable() const {
    const char* said = ::archive_error_string(archive_.get());
    return {ExitCode::kBadSource, "cannot unpack " + quote(file_.native()) + ": " +
                                      (said != nullptr ? said : "it is damaged") +
                                      "; name a whole .tar.bz2, .tar.xz, .tar.gz or .tar.zst"};
  }
  [[nodiscard]] Error refused(std::string_view entry, std::string_view why) const {
    return {ExitCode::kBadSource, "cannot unpack " + quote(file_.native()) + ": its entry " +
                                      quote(entry) + " " + std::string(why)};
  }

  // The entry's name below the directory, without "." and the like. Throws for what leads out.
  [[nodiscard]] fs::path checked(std::string_view name) const {
    const fs::path path(name);
    if (name.empty() || name.find('\0') != std::string_view::npos) {
      throw refused(name, "has no name");
    }
    if (path.is_absolute()) throw refused(name, "has an absolute path");
    for (const fs::path& part : path) {
      if (part == "..") throw refused(name, "leads out of the archive");
    }
    const fs::path normal = path.lexically_normal();
    return normal.has_filename() ? normal : normal.parent_path();
  }

  void take(archive_entry* entry) {
    const char* raw = ::archive_entry_pathname(entry);
    const std::string name = raw != nullptr ? raw : "";
    const fs::path path = checked(name);
    const mode_t mode = ::archive_entry_mode(entry);
    if ((mode & (S_ISUID | S_ISGID)) != 0 && ::archive_entry_filetype(entry) == AE_IFREG) {
      throw refused(name, "is set-uid or set-gid");
    }
    for (fs::path above = path.parent_path(); !above.empty(); above = above.parent_path()) {
      if (links_.contains(above)) throw refused(name, "lies behind a symbolic link");
    }
    if (const char* target = ::archive_entry_hardlink(entry); target != nullptr) {
      make_hard_link(name, path, target);
      return;
    }
    switch (::archive_entry_filetype(entry)) {
      case AE_IFDIR:
        if (path != "." && !path.empty()) make_directories(name, path);
        return;
      case AE_IFREG:
        make_file(name, path, entry);
        return;
      case AE_IFLNK: {
        const char* target = ::archive_entry_symlink(entry);
        links_[path] = target != nullptr ? target : "";
        return;
      }
      default:
        throw refused(name, "is neither a file nor a directory nor a link");
    }
  }

  void make_directories(const std::string& name, const fs::path& path) const {
    std::error_code error;
    fs::create_directories(directory_ / path, error);
    if (error == std::errc::not_a_directory || error == std::errc::file_exists) {
      throw refused(name, "is below what is a file");
    }
    if (error) {
      throw system_error(ExitCode::kCannotWrite, error.value(),
                         "make the directory " + quote((directory_ / path).native()));
    }
  }

  void make_file(const std::string& name, const fs::path& path, archive_entry* entry) {
    make_directories(name, path.parent_path());
    const fs::path target = directory_ / path;
    const mode_t mode = (::archive_entry_mode(entry) & S_IXUSR) != 0 ? 0755 : 0644;
    const UniqueFd fd(
        ::open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!fd && errno == EEXIST) throw refused(name, "is in it twice");
    if (!fd) {
      throw system_error(ExitCode::kCannotWrite, errno, "create " + quote(target.native()));
    }
    std::vector<std::byte> buffer(std::size_t{1} << 17);
    for (;;) {
      const la_ssize_t n = ::archive_read_data(archive_.get(), buffer.data(), buffer.size());
      if (n < 0) throw unreadable();
      if (n == 0) break;
      write_full(fd.get(), std::span(buffer).first(static_cast<std::size_t>(n)),
                 quote(target.native()));
    }
    // The newest file's time becomes the image's.
    const std::array<timespec, 2> times{
        timespec{0, UTIME_OMIT},
        timespec{::archive_entry_mtime(entry), ::archive_entry_mtime_nsec(entry)}};
    if (::archive_entry_mtime_is_set(entry) != 0) (void)::futimens(fd.get(), times.data());
  }

  void make_hard_link(const std::string& name, const fs::path& path, const char* target) const {
    const fs::path original = checked(target);
    if (!fs::is_regular_file(fs::symlink_status(directory_ / original))) {
      throw refused(name, "is a link to " + quote(target) + ", which does not come before it");
    }
    make_directories(name, path.parent_path());
    std::error_code error;
    fs::create_hard_link(directory_ / original, directory_ / path, error);
    if (error) throw refused(name, "cannot be made: " + error.message());
  }

  void make_link(const fs::path& path, const std::string& target) const {
    const fs::path meant = (path.parent_path() / target).lexically_normal();
    if (target.empty() || fs::path(target).is_absolute() || *meant.begin() == "..") {
      throw refused(path.native(),
                    "is a link to " + quote(target) + ", which lies outside of the archive");
    }
    // "a/../../x" may look harmless and lead elsewhere when a is a link itself: a chain of such
    // links is followed name by name.
    check_chain(path, target);
    make_directories(path.native(), path.parent_path());
    std::error_code error;
    fs::create_symlink(target, directory_ / path, error);
    if (error == std::errc::file_exists) throw refused(path.native(), "is in it twice");
    if (error) {
      throw system_error(ExitCode::kCannotWrite, error.value(),
                         "create " + quote((directory_ / path).native()));
    }
  }

  // Follows a link as the system would, with the archive's own links, and throws where it leaves.
  void check_chain(const fs::path& path, const std::string& target) const {
    std::vector<std::string> todo;
    const auto push = [&todo](const fs::path& names) {
      const std::vector<fs::path> parts(names.begin(), names.end());
      todo.insert(todo.end(), parts.rbegin(), parts.rend());
    };
    fs::path here = path.parent_path();
    push(target);
    constexpr int kMostSteps = 4096;
    for (int steps = 0; !todo.empty(); ++steps) {
      const std::string part = todo.back();
      todo.pop_back();
      if (part == "..") {
        if (here.empty()) {
          throw refused(path.native(),
                        "is a link to " + quote(target) + ", which lies outside of the archive");
        }
        here = here.parent_path();
      } else if (!part.empty() && part != ".") {
        const auto link = links_.find(here / part);
        if (link == links_.end()) {
          here /= part;
        } else if (steps > kMostSteps || fs::path(link->second).is_absolute()) {
          throw refused(path.native(), "is a link to " + quote(target) + ", which leads nowhere");
        } else {
          push(link->second);
        }
      }
    }
  }

  const fs::path& file_;
  fs::path directory_;
  Progress& progress_;
  std::unique_ptr<archive, Free> archive_{::archive_read_new()};
  std::map<fs::path, std::string> links_;
  std::uintmax_t size_ = 0;
};

// Portable builds have one directory at the top.
fs::path find_prefix(const fs::path& directory) {
  if (fs::exists(directory / "bin")) return directory;
  std::vector<fs::path> entries;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    entries.push_back(entry.path());
  }
  return entries.size() == 1 ? entries.front() : directory;
}

}  // namespace

SourceTree use_archive(const fs::path& file, const fs::path& work, Progress& progress) {
  if (!fs::is_regular_file(file)) {
    throw Error(ExitCode::kBadSource, "there is no archive " + quote(file.native()) +
                                          "; name a portable build of PyPy, such as "
                                          "pypy3.11-v7.3.19-linux64.tar.bz2");
  }
  progress.phase("unpacking " + file.filename().native());
  const fs::path directory = work / "source";
  Unpacker(file, directory, progress).unpack();
  SourceTree source;
  source.prefix = find_prefix(directory);
  if (!fs::exists(source.prefix / "bin/pypy3") && !fs::exists(source.prefix / "bin/pypy")) {
    throw Error(ExitCode::kBadSource, "there is no PyPy in " + quote(file.native()) +
                                          ": bin/pypy3 is missing; name a portable build of PyPy");
  }
  source.root = source.prefix;
  source.movable = true;
  source.system_libraries = true;
  source.description = "tar:" + file.filename().native();
  // The version is what the interpreter says, once it runs.
  source.packages.push_back(
      {"pypy", "", "pypy", file.filename().native(), sha256_of_file(file), {"MIT"}});
  for (const char* name : {"lib", "lib64"}) {
    if (fs::is_directory(source.prefix / name)) {
      source.library_directories.push_back(source.prefix / name);
    }
  }
  return source;
}

}  // namespace pyram::builder
