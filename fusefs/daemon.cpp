#include "fusefs/daemon.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <system_error>

#include "fusefs/block_cache.h"
#include "fusefs/file_reader.h"
#include "fusefs/file_system.h"
#include "fusefs/idle_watch.h"
#include "fusefs/image/image.h"
#include "fusefs/log.h"
#include "fusefs/mount_point.h"
#include "fusefs/prefetcher.h"
#include "fusefs/recorder.h"
#include "fusefs/registry.h"
#include "fusefs/session.h"
#include "fusefs/statistics.h"
#include "fusefs/status.h"
#include "support/error.h"

namespace pyram {
namespace {

// Of a second start nothing has to be decompressed, and a first one is not held up by one reader's
// block when another one asks for a name.
constexpr unsigned kDefaultThreads = 2;

sigset_t ending_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, signal);
  return set;
}

// Blocks the signals that end the daemon, in this thread and those it starts, and reads them
// through a descriptor.
UniqueFd open_signals() {
  const sigset_t set = ending_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) throw system_error(ExitCode::kFailed, errno, "make a signal descriptor");
  return signals;
}

// What was open stays so for nobody: a pipe that we inherited would never end for its reader.
void leave_terminal() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    ::dup2(null.get(), descriptor);
  }
}

class Daemon {
 public:
  Daemon(const Options& options, Readiness& readiness)
      : options_(options),
        readiness_(readiness),
        signals_(open_signals()),
        image_path_(std::filesystem::absolute(options.image)),
        image_(Image::open(options.image, options.offset)),
        threads_(options.threads != 0 ? options.threads : kDefaultThreads),
        cache_(*image_, statistics_, options.cache_size, threads_),
        reader_(*image_, cache_),
        file_system_(*image_, reader_, statistics_, log_, {options.uid, options.gid}) {
    if (!options.record.empty()) {
      recorder_.emplace(std::filesystem::absolute(options.record), image_->superblock().block_size);
    }
    std::error_code error;
    if (const auto canonical = std::filesystem::canonical(image_path_, error); !error) {
      image_path_ = canonical;
    }
  }

  void run() {
    MountPoint mount =
        MountPoint::mount({.folder = options_.mount_point,
                           .source = image_path_.native(),
                           .allow_other = options_.allow_other || options_.allow_root,
                           .nonempty = options_.nonempty,
                           .no_exec = options_.no_exec});
    const UniqueFd ready(::eventfd(0, EFD_CLOEXEC));
    file_system_.on_ready([&] {
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t ignored = ::write(ready.get(), &one, sizeof(one));
    });
    const DaemonFacts facts{.image = image_path_.native(),
                            .mount_point = mount.folder().native(),
                            .threads = threads_,
                            .cache_capacity = cache_.capacity(),
                            .started = std::chrono::steady_clock::now()};
    file_system_.on_status([&] { return describe_status(facts, statistics_); });
    // Forks, so it comes before the threads.
    std::unique_ptr<Prefetcher> prefetcher = make_prefetcher(mount);
    Session session(file_system_, mount.take_device(), options_.debug);
    session.start(threads_);
    if (prefetcher) {
      prefetcher->start([&](InodeRef file, std::uint64_t offset, std::span<const std::byte> bytes) {
        return session.store(*image_, file, offset, bytes);
      });
    }
    try {
      serve(session, mount, ready.get());
    } catch (const Error& error) {
      // Only the end of the mount wakes the threads that wait for the kernel, and the mount is what
      // we couldn't end. The end of this process makes it a dead mount, which the next start
      // replaces.
      log_.error(error.what());
      if (recorder_) recorder_->write();
      std::_Exit(static_cast<int>(error.code()));
    }
    // It is told of requests, and stores into the session: so it ends between the two.
    session.join();
    prefetcher.reset();
    if (recorder_) recorder_->write();
  }

 private:
  std::unique_ptr<Prefetcher> make_prefetcher(const MountPoint& mount) {
    if (recorder_) {
      file_system_.record_to(*recorder_);
      return nullptr;
    }
    std::vector<HotGroup> groups;
    try {
      if (options_.prefetch == Prefetch::kAll) groups = whole_image(*image_);
      if (options_.prefetch == Prefetch::kHot) groups = hot_groups(*image_);
    } catch (const Error& error) {
      // The image works without it.
      log_.error(error.what());
    }
    if (groups.empty()) return nullptr;
    auto prefetcher = std::make_unique<Prefetcher>(*image_, reader_, statistics_, mount.folder(),
                                                   std::move(groups));
    file_system_.on_read([raw = prefetcher.get()](InodeRef file) { raw->note_read(file); });
    file_system_.on_quiesce(
        [raw = prefetcher.get()](std::function<void()> then) { raw->stop(std::move(then)); });
    return prefetcher;
  }

  enum Waiting : std::size_t { kSignals, kEnded, kReady, kCount };

  void serve(Session& session, const MountPoint& mount, int ready) {
    std::array<pollfd, kCount> waiting{};
    waiting[kSignals] = {signals_.get(), POLLIN, 0};
    waiting[kEnded] = {session.ended(), POLLIN, 0};
    waiting[kReady] = {ready, POLLIN, 0};
    std::optional<Registration> registration;
    IdleWatch idle(options_.idle_timeout);
    while ((waiting[kEnded].revents & POLLIN) == 0) {
      const int events = ::poll(waiting.data(), waiting.size(), idle.milliseconds());
      if (events < 0 && errno != EINTR) throw system_error(ExitCode::kFailed, errno, "wait");
      if (events < 0) continue;
      if ((waiting[kReady].revents & POLLIN) != 0) {
        waiting[kReady].fd = -1;
        if (options_.allow_other) registration.emplace(image_path_, mount.folder());
        announce();
      }
      if ((waiting[kSignals].revents & POLLIN) != 0) end(mount);
      const IdleWatch::Step step = idle.look(statistics_.all_requests());
      if (step.give_back_memory) give_back_memory();
      if (step.try_expiry && mount.expire() == UnmountResult::kBusy && step.may_unmount) {
        mount.unmount();
      }
    }
  }

  void give_back_memory() {
    cache_.release_idle();
    reader_.forget_maps();
    file_system_.forget_listings();
    image_->forget_metadata();
    image_->forget_stored();
    ::malloc_trim(0);
  }

  void announce() {
    if (!options_.foreground) {
      log_.set_target(Log::Target::kSyslog);
      leave_terminal();
    }
    readiness_.succeed();
    notify_service_manager("READY=1");
  }

  // Somebody asked us to end. Those who use the mount are served until they are done.
  void end(const MountPoint& mount) {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof(info)) > 0) {
    }
    notify_service_manager("STOPPING=1");
    if (mount.unmount() != UnmountResult::kBusy) return;
    log_.info("the mount is in use: it is detached, and served until its users end");
    mount.detach();
  }

  const Options& options_;
  Readiness& readiness_;
  UniqueFd signals_;
  Log log_;
  Statistics statistics_;
  std::filesystem::path image_path_;
  std::unique_ptr<Image> image_;
  unsigned threads_;
  std::optional<Recorder> recorder_;
  BlockCache cache_;
  FileReader reader_;
  FileSystem file_system_;
};

}  // namespace

void run_daemon(const Options& options, Readiness& readiness) {
  // glibc gives each thread an arena of its own otherwise, and keeps what is freed in it.
  ::mallopt(M_ARENA_MAX, 1);
  Daemon(options, readiness).run();
}

}  // namespace pyram
