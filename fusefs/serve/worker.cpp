#include "fusefs/serve/worker.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "fusefs/image/image.h"
#include "fusefs/log.h"
#include "fusefs/serve/block_cache.h"
#include "fusefs/serve/block_filler.h"
#include "fusefs/serve/confinement.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/serve/file_system.h"
#include "fusefs/serve/memory_plan.h"
#include "fusefs/serve/prefetcher.h"
#include "fusefs/serve/recorder.h"
#include "fusefs/serve/session.h"
#include "fusefs/status.h"
#include "fusefs/supervise/idle_watch.h"
#include "fusefs/supervise/shared_state.h"
#include "fusefs/supervise/signals.h"
#include "support/end_process.h"
#include "support/error.h"

namespace pyram {
namespace {

// Of a second start nothing has to be decompressed, and a first one is not held up by one reader's
// block when another one asks for a name.
constexpr unsigned kDefaultThreads = 2;

// A prefetch has nothing to wait for but the processor.
unsigned count_prefetch_threads() {
  constexpr unsigned kMost = 4;
  return std::clamp(std::thread::hardware_concurrency(), 1U, kMost);
}

// Why a new worker can't be had, for whoever asked. Thread-safe.
class ReloadRequest {
 public:
  explicit ReloadRequest(const Control& control) : control_(control) {}

  void ask(FileSystem::ReloadAnswer answer) {
    const std::lock_guard lock(mutex_);
    if (answer_) return answer("somebody else is at it");
    answer_ = std::move(answer);
    control_.send(Word::kReload);
  }

  // `why`: nothing when it was granted.
  void answer(std::string_view why) {
    const std::lock_guard lock(mutex_);
    if (answer_) std::exchange(answer_, nullptr)(why);
  }

 private:
  const Control& control_;
  std::mutex mutex_;
  FileSystem::ReloadAnswer answer_;
};

// The supervisor's to say, where it has nothing better.
void tell_failure(const Control& control, ExitCode code, const char* what) {
  control.send(Word::kFailed, std::string(1, static_cast<char>(code)) + what);
}

class Worker {
 public:
  Worker(const Options& options, const Control& control, WorkerHandles handles, WorkerKind kind)
      : options_(options),
        kind_(kind),
        control_(control),
        reload_(control),
        memory_(SharedMemory::attach(std::move(handles.state))),
        statistics_(memory_->statistics),
        transport_{memory_->resume, [this] { control_.send(Word::kReady); }},
        is_first_(!memory_->resume.is_open()),
        device_(std::move(handles.device)),
        image_(std::make_unique<Image>(
            ImageFile(std::move(handles.image), quote(memory_->image.data()), options.offset),
            options.verify)),
        threads_(options.threads != 0 ? options.threads : kDefaultThreads),
        prefetch_threads_(count_prefetch_threads()),
        memory_plan_(plan_memory(options.cache_size)),
        cache_(*image_, statistics_, memory_plan_.cache_bytes,
               threads_ + prefetch_threads_ + BlockFiller::kReaders, memory_plan_.is_short),
        reader_(*image_, cache_),
        file_system_(*image_, reader_, statistics_, log_, transport_, {options.uid, options.gid}) {
    transport_.can_resend = options.can_resend;
    log_.forward_to([this](std::string_view line, bool is_error) {
      control_.send(is_error ? Word::kError : Word::kInfo, line);
    });
    if (!options.record.empty()) {
      recorder_.emplace(std::filesystem::absolute(options.record), image_->superblock().block_size);
    }
    // What an earlier worker held or meant to read ahead went with it.
    statistics_.cache_bytes = 0;
    statistics_.prefetch_total = statistics_.prefetch_done.load();
  }

  void run() {
    using std::chrono::nanoseconds;
    using std::chrono::steady_clock;
    const UniqueFd memory_file(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
    facts_ = {.image = memory_->image.data(),
              .mount_point = memory_->mount_point.data(),
              .daemon = memory_->daemon,
              .confinement = "none",
              .verifies = image_->verifies(),
              .memory_file = memory_file.get(),
              .threads = threads_,
              .cache_capacity = cache_.capacity(),
              .started = steady_clock::time_point(nanoseconds(memory_->started))};
    file_system_.on_status([&] { return describe_status(facts_, statistics_); });
    if (kind_ == WorkerKind::kProcess) {
      file_system_.on_reload([this](auto answer) { reload_.ask(std::move(answer)); });
    }
    // Forks, so it comes before the threads.
    Background background{.prefetcher = make_prefetcher(), .storer = {}};
    Session session(file_system_, std::move(device_), options_.debug);
    // Signals that come to a process group come to its supervisor too, which is the one to act.
    const UniqueFd signals = kind_ == WorkerKind::kProcess ? open_signals() : UniqueFd();
    control_.send(Word::kPrepared);
    if (!wait_for_go()) return;
    if (kind_ == WorkerKind::kProcess && options_.confine) {
      facts_.confinement =
          confine({.helper = background.prefetcher ? background.prefetcher->helper() : -1});
    }
    if (!is_first_) {
      session.take_over();
      control_.send(Word::kReady);
    }
    const auto store = [&](InodeRef file, std::uint64_t offset, std::span<const std::byte> bytes) {
      if (session.store(*image_, file, offset, bytes)) statistics_.bytes_stored.add(bytes.size());
    };
    if (!recorder_ && !memory_plan_.is_short) {
      or_without("store whole blocks", [&] {
        background.storer.emplace(reader_, store);
        file_system_.store_by(*background.storer);
      });
    }
    // From here on there are threads that wait for the kernel. Where there are fewer than we
    // wanted, or what is only there for speed can't be had, those serve.
    const unsigned started = session.start(threads_);
    try {
      if (started < threads_) {
        log_.error("cannot start more than " + std::to_string(started) + " of " +
                   std::to_string(threads_) + " threads: it serves with these");
      }
      if (background.prefetcher) {
        or_without("prefetch", [&] { background.prefetcher->start(store); });
      }
      serve(session, background, signals.get());
    } catch (const std::exception& error) {
      // Only the end of the mount wakes the threads that wait for the kernel: no way to go on.
      tell_failure(control_, ExitCode::kFailed, error.what());
      ::_exit(static_cast<int>(ExitCode::kFailed));
    }
    // They are told of requests, and store into the session: so they end between the two.
    session.join();
    background.storer.reset();
    background.prefetcher.reset();
    if (recorder_) recorder_->write();
  }

 private:
  // What stores into the kernel's cache besides answering.
  struct Background {
    std::unique_ptr<Prefetcher> prefetcher;
    std::optional<BlockFiller> storer;

    // Calls `then` once no store is under way any more. Does not wait.
    void stop(std::function<void()> then) {
      const auto stop_storer = [this, then = std::move(then)] {
        storer ? storer->stop(then) : then();
      };
      prefetcher ? prefetcher->stop(stop_storer) : stop_storer();
    }
  };

  // Starts what makes it faster, and goes on without where that fails.
  template <typename Action>
  void or_without(const char* what, Action&& start) {
    try {
      start();
    } catch (const std::exception& error) {
      log_.error("cannot " + std::string(what) + ": " + error.what() + "; it serves without");
    }
  }

  // Not where another worker prefetched before us: the kernel has what it stored, and what it died
  // of may have been just that.
  std::unique_ptr<Prefetcher> make_prefetcher() {
    if (recorder_) {
      file_system_.record_to(*recorder_);
      return nullptr;
    }
    if (!is_first_ || options_.prefetch == Prefetch::kNone) return nullptr;
    auto prefetcher = std::make_unique<Prefetcher>(
        *image_, reader_, statistics_, memory_->mount_point.data(), [this] { return hot_list(); },
        prefetch_threads_);
    file_system_.on_read([raw = prefetcher.get()](InodeRef file) { raw->note_read(file); });
    file_system_.store_unless([raw = prefetcher.get()] { return raw->is_busy(); });
    file_system_.on_quiesce(
        [raw = prefetcher.get()](std::function<void()> then) { raw->stop(std::move(then)); });
    return prefetcher;
  }

  std::vector<HotGroup> hot_list() {
    try {
      return options_.prefetch == Prefetch::kAll ? whole_image(*image_) : hot_groups(*image_);
    } catch (const std::exception& error) {
      // The image works without it.
      log_.error(error.what());
      return {};
    }
  }

  // False where nobody will ever want us.
  [[nodiscard]] bool wait_for_go() const {
    for (;;) {
      const std::optional<Message> message = control_.receive();
      if (!message) return false;
      if (message->word == Word::kGo) return true;
    }
  }

  enum Waiting : std::size_t { kControl, kEnded, kSignals, kQuiet, kCount };

  void serve(Session& session, Background& background, int signals) {
    std::array<pollfd, kCount> waiting{};
    waiting[kControl] = {control_.descriptor(), POLLIN, 0};
    waiting[kEnded] = {session.ended(), POLLIN, 0};
    waiting[kSignals] = {signals, POLLIN, 0};
    waiting[kQuiet] = {quiet_.get(), POLLIN, 0};
    IdleWatch idle(0);
    while ((waiting[kEnded].revents & POLLIN) == 0) {
      const int events = ::poll(waiting.data(), waiting.size(), idle.milliseconds());
      if (events < 0 && errno != EINTR) throw system_error(ExitCode::kFailed, errno, "wait");
      if (events < 0) continue;
      if ((waiting[kSignals].revents & POLLIN) != 0) {
        read_signals(signals);
        control_.send(Word::kEnd);
      }
      if (waiting[kControl].revents != 0) {
        const std::optional<Message> message = control_.receive();
        // Nobody could ever end us, or go on after us.
        if (!message) throw Error(ExitCode::kFailed, "the supervisor is gone");
        if (message->word == Word::kRefused) reload_.answer(message->text);
        if (message->word == Word::kDrain) {
          // Somebody has to answer for the pages that they may be waiting for.
          background.stop([descriptor = quiet_.get()] {
            const std::uint64_t one = 1;
            [[maybe_unused]] const ssize_t ignored = ::write(descriptor, &one, sizeof(one));
          });
        }
      }
      if ((waiting[kQuiet].revents & POLLIN) != 0) return end_for_another(session);
      if (idle.look(statistics_.all_requests()).give_back_memory) give_back_memory();
    }
    if (!session.unmounted()) {
      throw Error(ExitCode::kFailed, "the connection to the kernel is broken");
    }
  }

  // Whoever asked for it is told when nothing that comes from now on is answered by us.
  void end_for_another(Session& session) {
    session.drain();
    reload_.answer({});
  }

  void give_back_memory() {
    cache_.release_idle();
    reader_.forget_maps();
    file_system_.forget();
    image_->forget_metadata();
    image_->forget_stored();
    ::malloc_trim(0);
  }

  const Options& options_;
  const WorkerKind kind_;
  const Control& control_;
  ReloadRequest reload_;
  SharedMemory memory_;
  Statistics& statistics_;
  Transport transport_;
  Log log_;
  DaemonFacts facts_;
  UniqueFd quiet_{::eventfd(0, EFD_CLOEXEC)};  // Readable once the background stopped.
  bool is_first_;                              // No worker served this mount before.
  UniqueFd device_;
  std::unique_ptr<Image> image_;
  unsigned threads_;
  unsigned prefetch_threads_;
  MemoryPlan memory_plan_;
  std::optional<Recorder> recorder_;
  BlockCache cache_;
  ExtentMapper reader_;
  FileSystem file_system_;
};

int work(const Options& options, const Control& control, WorkerHandles handles,
         WorkerKind kind) noexcept {
  ExitCode code = ExitCode::kFailed;
  try {
    // glibc gives each thread an arena of its own otherwise, and keeps what is freed in it.
    ::mallopt(M_ARENA_MAX, 1);
    try {
      Worker(options, control, std::move(handles), kind).run();
      return 0;
    } catch (const Error& error) {
      code = error.code();
      throw;
    }
  } catch (const std::exception& error) {
    tell_failure(control, code, error.what());
  }
  return static_cast<int>(code);
}

}  // namespace

int run_worker(const Options& options, WorkerHandles handles, WorkerKind kind) noexcept {
  const Control control(std::move(handles.control));
  if (kind == WorkerKind::kThread) return work(options, control, std::move(handles), kind);

  // A process that is killed keeps its descriptors while one of its threads can't die, and one that
  // puts pages into the kernel's cache can't while a page is being read: by a request that only the
  // next worker answers. So this thread has descriptors of its own, which go when it does, and the
  // others don't have this one.
  const int alive = handles.alive.release();
  std::promise<void> alone;
  int code = 0;
  std::thread serving;
  try {
    serving = std::thread([&, separate = alone.get_future()]() mutable {
      separate.wait();
      ::close(alive);
      code = work(options, control, std::move(handles), kind);
    });
  } catch (const std::exception& error) {
    tell_failure(control, ExitCode::kFailed,
                 ("cannot start a worker's thread: " + std::string(error.what())).c_str());
    end_process(static_cast<int>(ExitCode::kFailed));
  }
  if (::unshare(CLONE_FILES) != 0) ::_exit(static_cast<int>(ExitCode::kFailed));
  ::close_range(0, static_cast<unsigned>(alive) - 1, 0);
  ::close_range(static_cast<unsigned>(alive) + 1, ~0U, 0);
  alone.set_value();
  if (options.confine) static_cast<void>(confine({}));
  serving.join();
  // What the supervisor's copies of its objects have to do at their end is not ours to do.
  end_process(code);
}

}  // namespace pyram
