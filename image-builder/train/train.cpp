#include "image-builder/train/train.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "image-builder/elf/edit.h"
#include "image-builder/elf/file.h"
#include "image-builder/elf/order.h"
#include "image-builder/embedded.h"
#include "image-builder/emulator.h"
#include "support/child.h"
#include "support/collector_defaults.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/process.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// The daemon beside this program, or in PATH.
fs::path find_daemon() {
  std::error_code ignored;
  const fs::path self = fs::read_symlink("/proc/self/exe", ignored);
  fs::path beside = self.parent_path() / "pyram-mount";
  if (!ignored && ::access(beside.c_str(), X_OK) == 0) return beside;
  if (const auto found = find_program("pyram-mount")) return *found;
  throw Error(ExitCode::kMissingTool,
              "cannot train: pyram-mount is neither beside pyram-image nor in PATH; install it");
}

// An image, mounted with recording on for as long as this lives. The daemon stays in the foreground
// and in our process group, so that it ends with us, whatever happens.
class RecordingMount {
 public:
  RecordingMount(const fs::path& image, const fs::path& directory, const fs::path& record) {
    constexpr int kReadyFd = 3;
    constexpr int kNull = DescriptorCopy::kNull;  // Also for stderr: errors come through the pipe.
    auto [reader, writer] = make_pipe();
    Program daemon;
    daemon.arguments = {find_daemon().native(),
                        "-f",
                        "--ready-fd",
                        std::to_string(kReadyFd),
                        "--record",
                        record.native(),
                        image.native(),
                        directory.native()};
    daemon.descriptors = {{kNull, STDIN_FILENO},
                          {kNull, STDOUT_FILENO},
                          {kNull, STDERR_FILENO},
                          {writer.get(), kReadyFd}};
    daemon_.emplace(Child::start(daemon));
    writer.reset();
    const std::string said = read_to_end(reader.get(), "pyram-mount's answer");
    if (said != "+") {
      daemon_->wait();
      throw Error(ExitCode::kNoFuse,
                  "cannot mount the image to train it: " +
                      (said.size() > 1 ? said.substr(1) : std::string("pyram-mount ended")));
    }
  }
  ~RecordingMount() { unmount(); }
  RecordingMount(const RecordingMount&) = delete;
  RecordingMount& operator=(const RecordingMount&) = delete;

  // The record is whole when this returns.
  void unmount() {
    if (!daemon_) return;
    daemon_->signal(SIGTERM);
    daemon_->wait();
    daemon_.reset();
  }

 private:
  std::optional<Child> daemon_;
};

// Bytes of files, to subtract one run's reading from another's.
class Coverage {
 public:
  void add(const HotRange& range) {
    files_[range.path].emplace(range.offset, range.offset + range.length);
  }
  [[nodiscard]] bool holds(const HotRange& range) const {
    const auto file = files_.find(range.path);
    if (file == files_.end()) return false;
    std::uint64_t from = range.offset;
    for (const auto& [begin, end] : file->second) {
      if (begin > from) break;
      from = std::max(from, end);
    }
    return from >= range.offset + range.length;
  }

 private:
  std::map<std::string, std::set<std::pair<std::uint64_t, std::uint64_t>>> files_;
};

// What would make two recordings of the same program differ: where the kernel puts things in
// memory, and which of two processors is faster. Holds for this process and what it starts.
class SameEveryTime {
 public:
  SameEveryTime() {
    before_ = ::personality(0xffffffff);
    if (before_ != -1) ::personality(static_cast<unsigned long>(before_) | ADDR_NO_RANDOMIZE);
    has_processors_ = ::sched_getaffinity(0, sizeof processors_, &processors_) == 0;
    for (std::size_t i = 0; has_processors_ && i < CPU_SETSIZE; ++i) {
      if (!CPU_ISSET(i, &processors_)) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(i, &one);
      ::sched_setaffinity(0, sizeof one, &one);
      break;
    }
  }
  ~SameEveryTime() {
    if (before_ != -1) ::personality(static_cast<unsigned long>(before_));
    if (has_processors_) ::sched_setaffinity(0, sizeof processors_, &processors_);
  }
  SameEveryTime(const SameEveryTime&) = delete;
  SameEveryTime& operator=(const SameEveryTime&) = delete;

 private:
  int before_ = -1;
  bool has_processors_ = false;
  cpu_set_t processors_{};
};

// The environments that a training runs in. What a start reads depends on a few variables: where
// none names a locale or a home, the interpreter looks for both; the number of variables decides
// how its tables grow; some switch code on. A program of ours runs as in a service with next to
// none, as in a build, and as the launcher starts it from a shell or for a container; somebody's
// own runs with all that he has set.
std::vector<std::vector<std::string>> training_environments(const Training& training) {
  if (training.standard) {
    const std::string path = "PATH=/usr/local/bin:/usr/bin:/bin";
    const std::vector<std::string> bare = {"PYTHONHASHSEED=0", path};
    std::vector<std::string> usual = bare;
    usual.insert(usual.end(), {"LC_ALL=C.UTF-8", "TZ=UTC0", "HOME=/", "TMPDIR=/tmp"});
    // A seed of 0 switches the randomisation of hashes off, which few users do.
    const std::vector<std::string> launched = {
        "PYTHONHASHSEED=1",
        path,
        "SHELL=/bin/bash",
        "TERM=xterm-256color",
        "LANG=C.UTF-8",
        "HOME=/",
        "USER=user",
        "LOGNAME=user",
        "PWD=/",
        "SHLVL=1",
        "HOSTNAME=host",
        "EDITOR=vi",
        "MAIL=/var/mail/user",
        "XDG_RUNTIME_DIR=/run/user/1000",
        "XDG_SESSION_TYPE=tty",
        "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1",
        std::string("PYPY_GC_NURSERY=") + kUsualNursery,
        std::string("GLIBC_TUNABLES=") + kUsualTunables,
        std::string(layout::kAddedVariables) + "=PYPY_GC_NURSERY,GLIBC_TUNABLES"};
    return {usual, bare, launched};
  }
  std::vector<std::string> own = {"PYTHONHASHSEED=0"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("PYTHONHASHSEED=")) own.emplace_back(*entry);
  }
  own.insert(own.end(), training.environment.begin(), training.environment.end());
  return {own};
}

// The same at every build, since a program's path is part of what it works with: it decides how
// tables of names are filled, and so which code runs.
constexpr char kTrainingDirectory[] = "/tmp/pyram-training";
constexpr char kMountName[] = "mounted";
constexpr char kRecordName[] = "record";
constexpr char kDjangoName[] = "train_django.py";
constexpr char kPymysqlName[] = "train_pymysql.py";

// Whatever may be in the directory, and nothing below what may be mounted there.
void remove_entries() noexcept {
  for (const char* name : {kRecordName, kDjangoName, kPymysqlName}) {
    ::unlink((std::string(kTrainingDirectory) + '/' + name).c_str());
  }
  ::rmdir((std::string(kTrainingDirectory) + '/' + kMountName).c_str());
  ::rmdir(kTrainingDirectory);
}

// Files of which the loader maps a start's pages out of many others.
constexpr std::uintmax_t kLargeElf = std::uintmax_t{512} << 10;

// Ranges that follow each other, made one.
std::vector<HotRange> joined(const std::vector<HotRange>& ranges) {
  std::vector<HotRange> result;
  for (const HotRange& range : ranges) {
    if (!result.empty() && result.back().path == range.path &&
        result.back().offset + result.back().length == range.offset) {
      result.back().length += range.length;
    } else {
      result.push_back(range);
    }
  }
  return result;
}

// What cold files are sorted by: programs, then modules, then the rest by kind. A module's source
// and its bytecode have names and texts in common, so they lie side by side.
std::string place_by_kind(const std::string& path, bool is_program) {
  if (is_program) return "0";
  const fs::path name(path);
  const std::string extension = name.extension().native();
  if (extension == ".py") return "1" + (name.parent_path() / name.stem()).native();
  if (extension == ".pyc") {
    // DIRECTORY/__pycache__/NAME.TAG.pyc
    return "1" + (name.parent_path().parent_path() / name.stem().stem()).native();
  }
  return "2" + extension;
}

bool is_in_packages(const std::string& path, const std::vector<std::string>& sites) {
  return std::any_of(sites.begin(), sites.end(),
                     [&](const std::string& site) { return path.starts_with(site + "/"); });
}

// Starts the interpreter of a mounted image. bin/pypy3 would start the loader, which an emulator
// that isn't registered with the kernel doesn't take over: then we are in its place, and read it,
// as a start does.
std::vector<std::string> starting_words(const fs::path& mounted, const Architecture& architecture) {
  const std::string interpreter = (mounted / layout::kInterpreter).native();
  std::vector<std::string> words = emulator(architecture);
  if (words.empty()) return {interpreter};
  static_cast<void>(read_file(interpreter));
  words.insert(words.end(),
               {(mounted / layout::kLoader).native(), "--argv0", interpreter, "--library-path",
                (mounted / layout::kLibraries).native(), (mounted / layout::kProgram).native()});
  return words;
}

}  // namespace

TrainingDirectory::TrainingDirectory(fs::path otherwise) : path_(std::move(otherwise)) {
  for (;;) {
    if (::mkdir(kTrainingDirectory, 0700) != 0 && errno != EEXIST) return;
    UniqueFd fd(::open(kTrainingDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd && errno == ENOENT) continue;  // Another build has just left it.
    struct stat opened {};
    if (!fd || ::fstat(fd.get(), &opened) != 0 || opened.st_uid != ::geteuid()) return;
    if (::flock(fd.get(), LOCK_EX) != 0) return;
    struct stat named {};
    if (::stat(kTrainingDirectory, &named) == 0 && named.st_ino == opened.st_ino) {
      lock_ = std::move(fd);
      path_ = kTrainingDirectory;
      return;
    }
  }
}

TrainingDirectory::~TrainingDirectory() {
  if (lock_) remove_entries();
}

void remove_training_directory() noexcept {
  const UniqueFd fd(::open(kTrainingDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  const bool is_ours = fd && ::fstat(fd.get(), &status) == 0 && status.st_uid == ::geteuid();
  if (is_ours && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) remove_entries();
}

std::vector<Training> standard_trainings(const fs::path& work) {
  write_file(work / kDjangoName, train_django_program());
  write_file(work / kPymysqlName, train_pymysql_program());
  return {{"-c pass", {"-c", "pass"}, true},
          {"Django", {(work / kDjangoName).native()}, true},
          {"PyMySQL", {(work / kPymysqlName).native()}, true}};
}

Recording record(const fs::path& image, const std::vector<Training>& trainings,
                 const Architecture& architecture, const fs::path& work) {
  const SameEveryTime same;
  const fs::path directory = work / kMountName;
  const fs::path file = work / kRecordName;
  fs::create_directory(directory);
  Recording result;
  for (const Training& training : trainings) {
    RecordingMount mount(image, directory, file);
    Command command;
    command.arguments = starting_words(directory, architecture);
    command.arguments.insert(command.arguments.end(), training.words.begin(), training.words.end());
    for (const std::vector<std::string>& environment : training_environments(training)) {
      command.environment = environment;
      const Outcome outcome = run(command);
      if (!outcome.ok()) {
        throw Error(ExitCode::kFailed, "the training with " + quote(training.name) +
                                           " ended with " + std::to_string(outcome.status) + ": " +
                                           outcome.last_line());
      }
    }
    mount.unmount();
    // A record is a hot list of one group.
    result.push_back(parse_hot_list(read_file(file)).front().ranges);
  }
  fs::remove(directory);
  fs::remove(file);
  return result;
}

std::vector<std::string> order_by_use(const fs::path& tree, Recording& recording) {
  std::set<std::string> paths;
  for (const std::vector<HotRange>& run : recording) {
    for (const HotRange& range : run) paths.insert(range.path);
  }
  std::vector<std::string> changed;
  for (const std::string& path : paths) {
    const fs::path file = tree / path;
    const bool large = fs::is_regular_file(fs::symlink_status(file)) && is_elf(file) &&
                       fs::file_size(file) >= kLargeElf;
    if (!large) continue;
    // What every start reads, and what some programs read.
    std::vector<std::vector<FileRange>> uses(2);
    for (std::size_t i = 0; i < recording.size(); ++i) {
      for (const HotRange& range : recording[i]) {
        if (range.path == path) uses[i == 0 ? 0 : 1].push_back({range.offset, range.length});
      }
    }
    const auto ordered = order_pages(read_bytes(file), uses, path);
    if (!ordered) continue;
    replace_bytes(file, ordered->bytes);
    changed.push_back(path);
    for (std::vector<HotRange>& run : recording) {
      std::vector<HotRange> moved;
      for (HotRange& range : run) {
        if (range.path != path) {
          moved.push_back(std::move(range));
          continue;
        }
        for (const FileRange& part : ordered->moved({range.offset, range.length})) {
          moved.push_back({part.offset, part.length, path});
        }
      }
      run = std::move(moved);
    }
  }
  return changed;
}

std::string hot_list(const Recording& recording, const std::vector<std::string>& sites) {
  std::string text(kHotListHeader);
  Coverage known;
  for (std::size_t i = 0; i < recording.size(); ++i) {
    std::vector<HotRange> fresh;
    for (const HotRange& range : recording[i]) {
      if (!known.holds(range)) fresh.push_back(range);
    }
    if (i == 0) {
      for (const HotRange& range : fresh) known.add(range);
    } else if (!fresh.empty()) {
      auto first = std::find_if(fresh.begin(), fresh.end(), [&](const HotRange& range) {
        return is_in_packages(range.path, sites);
      });
      if (first == fresh.end()) first = fresh.begin();
      text += "group " + first->path + "\n";
    }
    for (const HotRange& range : joined(fresh)) text += format_hot_range(range);
  }
  return text;
}

std::string sort_file(const fs::path& tree, const Recording& recording) {
  // Higher is earlier; mksquashfs takes numbers of 16 bits.
  int priority = std::numeric_limits<std::int16_t>::max();
  std::map<std::string, int> priorities;
  const auto add = [&](const std::string& path) {
    const bool is_new = priorities.emplace(path, priority).second;
    if (is_new && priority > std::numeric_limits<std::int16_t>::min()) --priority;
  };
  for (const std::vector<HotRange>& run : recording) {
    for (const HotRange& range : run) add(range.path);
  }
  std::vector<std::pair<std::string, std::string>> others;  // What to sort by; the path.
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(tree)) {
    if (!entry.is_regular_file() || entry.is_symlink()) continue;
    const std::string path = entry.path().lexically_relative(tree).native();
    others.emplace_back(place_by_kind(path, is_elf(entry.path())), path);
  }
  std::sort(others.begin(), others.end());
  for (const auto& [place, path] : others) add(path);
  std::string text;
  for (const auto& [path, value] : priorities) {
    if (!fs::is_regular_file(fs::symlink_status(tree / path))) continue;
    for (const char c : path) {
      if (c == ' ' || c == '\\' || c == '\t') text.push_back('\\');
      text.push_back(c);
    }
    text += " " + std::to_string(value) + "\n";
  }
  return text;
}

}  // namespace pyram::builder
