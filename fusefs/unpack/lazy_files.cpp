#include "fusefs/unpack/lazy_files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <string>
#include <thread>

#include "support/child.h"
#include "support/error.h"
#include "support/io.h"
#include "support/pipe.h"

namespace pyram {
namespace {

// What else we open.
constexpr rlim_t kOtherDescriptors = 256;
// Seconds that the kernel must let an opener wait at least.
constexpr int kLeastBreakTime = 10;
constexpr char kBreakTime[] = "/proc/sys/fs/lease-break-time";
constexpr std::size_t kCreatedInARow = 64;
// Nobody waits for most of the files: what the program computes comes first.
constexpr int kNice = 10;

int lease_signal() { return SIGRTMIN; }

// SIGIO comes where too many of the other are queued; it does not tell the file.
sigset_t lease_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, lease_signal());
  ::sigaddset(&signals, SIGIO);
  return signals;
}

// The signal goes to the process. Without F_SETOWN it would go to the thread that takes the lease,
// and nowhere once that has ended.
bool take_lease(int fd) noexcept {
  return ::fcntl(fd, F_SETSIG, lease_signal()) == 0 && ::fcntl(fd, F_SETOWN, ::getpid()) == 0 &&
         ::fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
}

bool has_leases(int directory) {
  constexpr char kName[] = ".lease";
  const UniqueFd fd(
      ::openat(directory, kName, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return false;
  ::unlinkat(directory, kName, 0);
  return take_lease(fd.get());
}

bool is_patient() {
  const UniqueFd file(::open(kBreakTime, O_RDONLY | O_CLOEXEC));
  std::array<char, 16> text{};
  const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : -1;
  int seconds = 0;
  return size > 0 && std::from_chars(text.data(), text.data() + size, seconds).ec == std::errc() &&
         seconds >= kLeastBreakTime;
}

// Also has the kernel make its table of descriptors large enough: with several threads each step of
// its growth would wait until no processor uses the old one.
bool can_open(rlim_t count) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  if (limit.rlim_cur < count) {
    limit.rlim_cur = std::min(count, limit.rlim_max);
    if (limit.rlim_cur != count || ::setrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  }
  const UniqueFd last(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, static_cast<int>(count) - 1));
  return static_cast<bool>(last);
}

}  // namespace

bool LazyFiles::can_be_had(const Plan& plan, std::size_t count) {
  return is_patient() && has_leases(plan.root_fd.get()) && can_open(count + kOtherDescriptors);
}

LazyFiles::LazyFiles(const Image& image, const Plan& plan, unsigned threads,
                     std::span<const PlannedFile* const> files)
    : image_(image), plan_(plan), files_(files.size()) {
  const sigset_t signals = lease_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  for (std::size_t i = 0; i < files.size(); ++i) files_[i].planned = files[i];
  const std::size_t rows = (files_.size() + kCreatedInARow - 1) / kCreatedInARow;
  const Work create_row = [&](std::size_t row) {
    const std::size_t end = std::min((row + 1) * kCreatedInARow, files_.size());
    for (std::size_t i = row * kCreatedInARow; i < end; ++i) create(files_[i]);
  };
  run_in_parallel(threads, rows, [&] { return create_row; });
}

void LazyFiles::create(File& file) {
  file.fd = create_file(plan_, *file.planned);
  const Times times(file.planned->attributes);
  if (::futimens(file.fd.get(), times.values) != 0 || !take_lease(file.fd.get())) {
    throw plan_.cannot("take a lease of ", file.planned->path);
  }
}

void LazyFiles::write(FileWriter& writer, File& file) noexcept {
  if (file.is_claimed.exchange(true)) return;
  const int fd = file.fd.get();
  try {
    writer.write(fd, *file.planned, 0, file.planned->attributes.size);
  } catch (...) {
    has_failed_ = true;
    // Whoever reads it must not take the zeros for its content.
    [[maybe_unused]] const int cut = ::ftruncate(fd, 0);
    ::fchmod(fd, 0);
  }
  ::fcntl(fd, F_SETLEASE, F_UNLCK);
  file.fd.reset();
}

void LazyFiles::write_all(FileWriter& writer) noexcept {
  ::setpriority(PRIO_PROCESS, 0, kNice);  // Of this thread.
  for (File& file : files_) write(writer, file);
}

std::vector<LazyFiles::File*> LazyFiles::by_descriptor() {
  std::vector<File*> files;
  for (File& file : files_) {
    if (!file.fd) continue;
    const auto fd = static_cast<std::size_t>(file.fd.get());
    if (files.size() <= fd) files.resize(fd + 1);
    files[fd] = &file;
  }
  return files;
}

void LazyFiles::serve_waiting(FileWriter& writer, std::span<File* const> files, int signals,
                              int finished) noexcept {
  std::array<pollfd, 2> events{pollfd{signals, POLLIN, 0}, pollfd{finished, POLLIN, 0}};
  for (;;) {
    if (::poll(events.data(), events.size(), -1) < 0 && errno != EINTR) return;
    if (events[1].revents != 0) return;
    signalfd_siginfo signal{};
    if (events[0].revents == 0 || ::read(signals, &signal, sizeof signal) != sizeof signal)
      continue;
    const auto fd = static_cast<std::size_t>(signal.ssi_fd);
    const bool is_known = signal.ssi_signo == static_cast<unsigned>(lease_signal()) &&
                          fd < files.size() && files[fd] != nullptr;
    if (is_known) write(writer, *files[fd]);
  }
}

bool LazyFiles::write_while_waited_for() {
  const sigset_t mask = lease_signals();
  const UniqueFd signals(::signalfd(-1, &mask, SFD_CLOEXEC));
  const UniqueFd finished(::eventfd(0, EFD_CLOEXEC));
  FileWriter for_waiting(image_, plan_);
  FileWriter for_others(image_, plan_);
  // Before the other thread closes descriptors.
  const std::vector<File*> files = by_descriptor();
  {
    const std::jthread others([&] {
      write_all(for_others);
      constexpr std::uint64_t kOne = 1;
      [[maybe_unused]] const ssize_t n = ::write(finished.get(), &kOne, sizeof kOne);
    });
    serve_waiting(for_waiting, files, signals.get(), finished.get());
  }
  return !has_failed_;
}

void LazyFiles::take_over() {
  for (File& file : files_) {
    if (::fcntl(file.fd.get(), F_GETLEASE) == F_UNLCK) {
      file.is_claimed = true;  // Its content was written.
    } else {
      ::fcntl(file.fd.get(), F_SETOWN, ::getpid());
    }
  }
}

void LazyFiles::fill(const std::function<void()>& done) {
  Pipe end = make_pipe();
  Child second = Child::fork("start a process", [&] {
    end.writer.reset();
    char byte = 0;
    ssize_t size = 0;
    do size = ::read(end.reader.get(), &byte, 1);
    while (size < 0 && errno == EINTR);
    if (size == 1) return 0;
    take_over();
    if (write_while_waited_for()) done();
    return 0;
  });
  second.release();
  end.reader.reset();
  if (write_while_waited_for()) done();
  constexpr char kDone = 1;
  write_full(end.writer.get(), std::string_view(&kDone, 1), "a pipe");
}

}  // namespace pyram
