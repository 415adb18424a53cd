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
#include "fusefs/serve/page_cache_filler.h"
#include "fusefs/serve/recorder.h"
#include "fusefs/serve/session.h"
#include "fusefs/serve/transport.h"
#include "fusefs/status.h"
#include "fusefs/supervise/idle_watch.h"
#include "fusefs/supervise/shared_state.h"
#include "fusefs/supervise/signals.h"
#include "support/end_process.h"
#include "support/error.h"
#include "support/locks.h"

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

// A request for a new worker, and its answer. Thread-safe.
class ReloadRequest {
 public:
  explicit ReloadRequest(const Control& control) : control_(control) {}

  void ask(DaemonCalls::ReloadAnswer answer) {
    const Lock lock(mutex_);
    if (answer_) return answer("another reload is under way");
    answer_ = std::move(answer);
    control_.send(Word::kReload);
  }

  // `why`: nothing when it was granted.
  void answer(std::string_view why) {
    const Lock lock(mutex_);
    if (answer_) std::exchange(answer_, nullptr)(why);
  }

 private:
  const Control& control_;
  Mutex mutex_;
  DaemonCalls::ReloadAnswer answer_ PYRAM_GUARDED_BY(mutex_);
};

// The supervisor's to say, where it has nothing better.
void tell_failure(const Control& control, ExitCode code, const char* what) {
  control.send(Word::kFailed, std::string(1, static_cast<char>(code)) + what);
}

ImageFile open_image(const Options& options, WorkerHandles& handles, const char* path) {
  const std::string name = quote(path);
  std::unique_ptr<PartialImage> partial;
  if (handles.map) {
    partial = std::make_unique<PartialImage>(std::move(handles.map), std::move(handles.ask), name);
    partial->set_patience(std::chrono::seconds(options.fetch_timeout));
  }
  return {std::move(handles.image), name, options.offset, std::move(partial)};
}

// Everything that serves a mount, constructed in the order in which it is used and destroyed in the
// reverse order.
class Worker {
 public:
  Worker(const Options& options, const Control& control, WorkerHandles handles, WorkerKind kind)
      : options_(options),
        kind_(kind),
        control_(control),
        reload_(control),
        log_([&control](std::string_view line, bool is_error) {
          control.send(is_error ? Word::kError : Word::kInfo, line);
        }),
        memory_(SharedMemory::attach(std::move(handles.state))),
        statistics_(memory_->statistics),
        is_first_(!memory_->resume.is_open()),
        image_(std::make_unique<Image>(open_image(options, handles, memory_->image.data()),
                                       options.verify, options.subdirectory)),
        threads_(options.threads != 0 ? options.threads : kDefaultThreads),
        prefetch_threads_(count_prefetch_threads()),
        memory_plan_(plan_memory(options.cache_size)),
        cache_(*image_, statistics_, memory_plan_.cache_bytes,
               threads_ + prefetch_threads_ + BlockFiller::kReaders, memory_plan_.is_short),
        extents_(*image_, cache_),
        transport_(
            std::move(handles.device), memory_->resume, statistics_,
            [&control] { control.send(Word::kReady); }, options.can_resend),
        recorder_(options.record.empty()
                      ? nullptr
                      : std::make_unique<Recorder>(std::filesystem::absolute(options.record),
                                                   image_->superblock().block_size)),
        filler_(*image_, extents_, transport_, statistics_, log_, fill_plan()),
        file_system_(*image_, extents_, filler_, statistics_, log_, {options.uid, options.gid},
                     daemon_calls(), recorder_.get()),
        session_(file_system_, transport_, options.debug) {
    if (image_->partial() != nullptr) {
      session_.keep_waiting(*image_->partial(), [&control] { control.send(Word::kAbsent); });
    }
    // What an earlier worker held or meant to read ahead went with it.
    statistics_.cache_bytes = 0;
    statistics_.prefetch_total = statistics_.prefetch_done.load();
  }

  void run() {
    // Signals that come to a process group come to its supervisor too, which is the one to act.
    const UniqueFd signals = kind_ == WorkerKind::kProcess ? open_signals() : UniqueFd();
    control_.send(Word::kPrepared);
    if (!wait_for_go()) return;
    if (kind_ == WorkerKind::kProcess && options_.confine) {
      facts_.confinement = confine({.helper = filler_.helper()});
    }
    if (!is_first_) {
      session_.take_over();
      control_.send(Word::kReady);
    }
    // From here on threads wait for the kernel. Where there are fewer than wanted, those serve.
    const unsigned started = session_.start(threads_);
    try {
      if (started < threads_) {
        log_.error("cannot start more than " + std::to_string(started) + " of " +
                   std::to_string(threads_) + " threads: it serves with these");
      }
      filler_.start();
      serve(signals.get());
    } catch (const std::exception& error) {
      // Nothing but the end of the mount wakes the threads that wait for the kernel.
      tell_failure(control_, ExitCode::kFailed, error.what());
      ::_exit(static_cast<int>(ExitCode::kFailed));
    }
    session_.join();
    filler_.end();
    if (recorder_) recorder_->write();
  }

 private:
  [[nodiscard]] FillPlan fill_plan() const {
    FillPlan plan{.prefetch = options_.prefetch,
                  .prefetch_threads = prefetch_threads_,
                  .mount_point = memory_->mount_point.data(),
                  .whole_blocks = !recorder_ && !memory_plan_.is_short};
    // A recording has to show what a program reads. And where an earlier worker prefetched, the
    // kernel has what that one stored, and the prefetch may have been what it died of.
    if (recorder_ || !is_first_) plan.prefetch = Prefetch::kNone;
    // Where the caller mounted, we don't know the place to look names up in.
    if (options_.device >= 0) plan.prefetch = Prefetch::kNone;
    return plan;
  }

  [[nodiscard]] DaemonCalls daemon_calls() {
    using std::chrono::nanoseconds;
    using std::chrono::steady_clock;
    facts_ = {.image = memory_->image.data(),
              .mount_point = memory_->mount_point.data(),
              .daemon = memory_->daemon,
              .confinement = "none",
              .verifies = image_->verifies(),
              .memory_file = memory_file_.get(),
              .threads = threads_,
              .cache_capacity = cache_.capacity(),
              .partial = image_->partial(),
              .started = steady_clock::time_point(nanoseconds(memory_->started))};
    DaemonCalls calls;
    calls.status = [this] { return describe_status(facts_, statistics_); };
    if (kind_ == WorkerKind::kProcess) {
      calls.reload = [this](auto answer) { reload_.ask(std::move(answer)); };
    }
    return calls;
  }

  // False where the supervisor does not want this worker any more.
  [[nodiscard]] bool wait_for_go() const {
    for (;;) {
      const std::optional<Message> message = control_.receive();
      if (!message) return false;
      if (message->word == Word::kGo) return true;
    }
  }

  enum Waiting : std::size_t { kControl, kEnded, kSignals, kQuiet, kCount };

  void serve(int signals) {
    std::array<pollfd, kCount> waiting{};
    waiting[kControl] = {control_.descriptor(), POLLIN, 0};
    waiting[kEnded] = {session_.ended(), POLLIN, 0};
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
        // Without it this process could not be ended or replaced.
        if (!message) throw Error(ExitCode::kFailed, "the supervisor is gone");
        if (message->word == Word::kRefused) reload_.answer(message->text);
        if (message->word == Word::kDrain) {
          // The filler's stores may wait for pages: their READs are answered until it has stopped.
          filler_.stop([descriptor = quiet_.get()] {
            const std::uint64_t one = 1;
            [[maybe_unused]] const ssize_t ignored = ::write(descriptor, &one, sizeof(one));
          });
        }
      }
      if ((waiting[kQuiet].revents & POLLIN) != 0) return end_for_another();
      if (idle.look(statistics_.all_requests()).give_back_memory) give_back_memory();
    }
    if (!session_.unmounted()) {
      throw Error(ExitCode::kFailed, "the connection to the kernel is broken");
    }
  }

  // The caller of --reload is told when this worker answers no further request.
  void end_for_another() {
    session_.drain();
    reload_.answer({});
  }

  void give_back_memory() {
    cache_.release_idle();
    extents_.forget_maps();
    filler_.forget();
    file_system_.forget();
    image_->forget_metadata();
    image_->forget_stored();
    ::malloc_trim(0);
  }

  const Options& options_;
  const WorkerKind kind_;
  const Control& control_;
  ReloadRequest reload_;
  Log log_;
  SharedMemory memory_;
  Statistics& statistics_;
  UniqueFd quiet_{::eventfd(0, EFD_CLOEXEC)};  // Readable once the filler stopped.
  UniqueFd memory_file_{::open("/proc/self/statm", O_RDONLY | O_CLOEXEC)};
  DaemonFacts facts_;
  const bool is_first_;  // No worker served this mount before.
  std::unique_ptr<Image> image_;
  const unsigned threads_;
  const unsigned prefetch_threads_;
  const MemoryPlan memory_plan_;
  BlockCache cache_;
  ExtentMapper extents_;
  Transport transport_;
  const std::unique_ptr<Recorder> recorder_;
  PageCacheFiller filler_;
  FileSystem file_system_;
  Session session_;
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
