#include "launcher/preload.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "launcher/system.h"
#include "support/child.h"
#include "support/error.h"
#include "support/unique_fd.h"

namespace pyram::launcher {
namespace {

struct File {
  std::string path;
  std::uint64_t size = 0;
};

struct CloseDirectory {
  void operator()(DIR* open) const { ::closedir(open); }
};

void list_files(const std::string& directory, std::vector<File>& files) {
  const std::unique_ptr<DIR, CloseDirectory> open(::opendir(directory.c_str()));
  if (!open) throw system_error(ExitCode::kLauncherFailed, errno, "list " + quote(directory));
  std::vector<std::string> directories;
  while (const dirent* entry = ::readdir(open.get())) {  // NOLINT(concurrency-mt-unsafe)
    const std::string name = static_cast<const char*>(entry->d_name);
    if (name == "." || name == "..") continue;
    struct stat status {};
    if (::fstatat(::dirfd(open.get()), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (S_ISDIR(status.st_mode)) directories.push_back(directory + '/' + name);
    if (S_ISREG(status.st_mode)) {
      files.push_back({directory + '/' + name, static_cast<std::uint64_t>(status.st_size)});
    }
  }
  for (const std::string& child : directories) list_files(child, files);
}

// What the reading processes share with the one that shows the progress.
struct Shared {
  std::atomic<std::size_t> next_file{0};
  std::atomic<std::uint64_t> bytes_done{0};
  std::atomic<int> error{0};
  std::atomic<std::size_t> failed_file{0};
};

// Processes, not threads: a static program with threads carries more code into every start.
void read_files(const std::vector<File>& files, Shared& shared) {
  std::array<char, std::size_t{128} * 1024> buffer;
  for (;;) {
    const std::size_t index = shared.next_file++;
    if (index >= files.size() || shared.error != 0) return;
    const UniqueFd fd(::open(files[index].path.c_str(), O_RDONLY | O_CLOEXEC));
    ssize_t size = fd ? 1 : -1;
    while (size > 0) {
      size = ::read(fd.get(), buffer.data(), buffer.size());
      if (size < 0 && errno == EINTR) size = 1;
      if (size > 0) shared.bytes_done += static_cast<std::uint64_t>(size);
    }
    // What the user may not read, the script can't read either.
    if (size < 0 && errno != EACCES) {
      shared.failed_file = index;
      shared.error = errno;
    }
  }
}

class ProgressBar {
 public:
  explicit ProgressBar(std::uint64_t total) : total_(std::max<std::uint64_t>(total, 1)) {}
  ~ProgressBar() {
    if (shown_) write_text("\r\x1b[K");
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(std::uint64_t done) {
    constexpr std::size_t kWidth = 30;
    const std::size_t filled = std::min<std::uint64_t>(kWidth, done * kWidth / total_);
    std::string text = "\rpyram: into RAM [";
    text.append(filled, '#').append(kWidth - filled, '.').append("] ");
    text.append(std::to_string(done >> 20)).append("/").append(std::to_string(total_ >> 20));
    write_text(text.append(" MiB"));
    shown_ = true;
  }

 private:
  static void write_text(const std::string& text) {
    [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
  }

  std::uint64_t total_;
  bool shown_ = false;
};

// At most so many processes read at once.
constexpr std::size_t kMostReaders = 8;
using Readers = std::array<std::optional<Child>, kMostReaders>;

void wait_and_show(Readers& readers, const Shared& shared, std::uint64_t total) {
  constexpr std::chrono::milliseconds kTick{100};
  constexpr int kTicksOfAMoment = 4;
  const bool visible = ::isatty(STDERR_FILENO) == 1;
  ProgressBar bar(total);
  int tick = 0;
  for (std::optional<Child>& reader : readers) {
    if (!reader) return;
    while (visible && !reader->wait_for(kTick)) {
      if (++tick > kTicksOfAMoment) bar.show(shared.bytes_done);
    }
    reader->wait();
  }
}

}  // namespace

void read_everything(const std::string& root) {
  std::vector<File> files;
  list_files(root, files);
  std::uint64_t total = 0;
  for (const File& file : files) total += file.size;
  // The largest first: the one that is read last should be short.
  std::sort(files.begin(), files.end(),
            [](const File& left, const File& right) { return left.size > right.size; });

  void* const memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw system_error(ExitCode::kLauncherFailed, errno, "get memory");
  }
  struct Unmap {
    void operator()(Shared* mapped) const { ::munmap(mapped, sizeof(Shared)); }
  };
  const std::unique_ptr<Shared, Unmap> shared(new (memory) Shared);

  const long processors = ::sysconf(_SC_NPROCESSORS_ONLN);
  const auto count = static_cast<std::size_t>(std::clamp(processors, 1L, long{kMostReaders}));
  const KeptChildren kept;  // Of all readers.
  Readers readers;
  try {
    for (std::size_t i = 0; i < count; ++i) {
      readers[i].emplace(Child::fork("start a process", [&] {
        read_files(files, *shared);
        return 0;
      }));
    }
  } catch (const Error&) {  // As many as there may be.
    if (!readers.front()) read_files(files, *shared);
  }
  wait_and_show(readers, *shared, total);
  if (shared->error != 0) {
    throw system_error(ExitCode::kLauncherFailed, shared->error,
                       "read " + quote(files[shared->failed_file].path));
  }
}

}  // namespace pyram::launcher
