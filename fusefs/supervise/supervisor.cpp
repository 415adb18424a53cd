#include "fusefs/supervise/supervisor.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "fusefs/image/image.h"
#include "fusefs/log.h"
#include "fusefs/mount/mount_point.h"
#include "fusefs/supervise/fetcher.h"
#include "fusefs/supervise/idle_watch.h"
#include "fusefs/supervise/image_check.h"
#include "fusefs/supervise/registry.h"
#include "fusefs/supervise/shared_state.h"
#include "fusefs/supervise/signals.h"
#include "fusefs/supervise/worker_process.h"
#include "support/error.h"
#include "support/io.h"
#include "support/text.h"

namespace pyram {
namespace {

using Clock = std::chrono::steady_clock;

// A worker that dies so soon after its start did not serve: something is wrong that a new one does
// not mend. Five in a row are five deaths within a second.
constexpr std::chrono::milliseconds kTooShort{150};
constexpr int kMostShortLives = 5;
// Between two attempts at what failed: of the next worker, for whom the mount's users wait, and of
// anything else.
constexpr int kRetryMilliseconds = 100;
constexpr int kPauseMilliseconds = 1000;

// Closes what was inherited: the reader of an inherited pipe would never see its end.
void leave_terminal() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    ::dup2(null.get(), descriptor);
  }
}

// The program that runs here, by a path that also leads to what replaces it.
std::string own_program() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).native();
}

// How it was called. In a bundle the first words say which of its programs it is.
std::vector<std::string> own_command_line() {
  std::vector<std::string> words;
  const std::string text = read_file("/proc/self/cmdline");
  for (std::string_view rest = text; !rest.empty();) words.emplace_back(take_part(rest, '\0'));
  return words;
}

// For people and for the registry. A path like /proc/self/fd/3 leads elsewhere by now, or nowhere:
// then it is what the system calls the open file ("/memfd:name (deleted)").
std::filesystem::path path_of_image(const Options& options, const ImageFile& image) {
  std::error_code error;
  const auto canonical = std::filesystem::canonical(options.image, error);
  if (image.partial() != nullptr && !error) return canonical;  // The open file is another one.
  struct stat named {};
  struct stat open {};
  if (!error && ::stat(canonical.c_str(), &named) == 0 && ::fstat(image.descriptor(), &open) == 0 &&
      named.st_dev == open.st_dev && named.st_ino == open.st_ino) {
    return canonical;
  }
  const auto link =
      std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(image.descriptor()), error);
  return error ? std::filesystem::absolute(options.image) : link;
}

// What the supervisor does with the mount. Each state may also be followed by kEnded: when the
// worker ends cleanly, or when the connection to the kernel is gone.
//
//   kStarting --ready--> kServing --idle timeout--> kLeft
//       |                   |                         |
//       +---- asked to end -+-------------------------+
//                           |
//                           +--> kDetached   the mount was in use
//                           +--> kAborting   only copies in other mount namespaces are left
enum class State {
  kStarting,  // Mounted. The first worker has not answered the kernel yet.
  kServing,
  kLeft,      // Unmounted here, as it was idle. Copies in other mount namespaces are served.
  kDetached,  // Asked to end: served until the programs that use it end.
  kAborting,  // Asked to end: ends when the worker has ended, although there are copies.
  kEnded,
};

class Supervisor {
 public:
  Supervisor(const Options& options, ImageFile image, Readiness& readiness)
      : options_(options),
        readiness_(readiness),
        program_(own_program()),
        signals_(open_signals()),
        image_path_(path_of_image(options, image)),
        image_(std::move(image)),
        idle_(options.idle_timeout) {
    // When one block was read ahead and the next one is read, the kernel takes it for sequential
    // reading, and would read up to megabytes more. The prefetch says what it needs
    // (ImageFile::read_ahead).
    image_.expect_random_reads();
    if (image_.partial() != nullptr) {
      image_.partial()->set_patience(std::chrono::seconds(options.fetch_timeout));
    }
  }

  void run() {
    if (image_.partial() != nullptr) look_after_fetcher();
    check_image(image_, options_);
    mount_.emplace(options_.device >= 0
                       ? MountPoint::adopt(UniqueFd(options_.device), options_.mount_point)
                       : MountPoint::mount(mount_request()));
    try {
      memory_.emplace(SharedMemory::create(image_path_.native(), mount_->directory().native()));
      start_worker();
      while (state_ != State::kEnded && !verdict_) step();
      if (verdict_) throw Error(*verdict_);
    } catch (const std::exception& error) {
      if (is_ready_) log_.error(error.what());
      if (supervised()) worker_.reset();
      give_mount_up();
      // A worker that is a thread waits for the kernel, which may have to wait for the mount's
      // users.
      if (is_ready_ && !supervised()) std::_Exit(static_cast<int>(ExitCode::kFailed));
      throw;
    }
  }

 private:
  [[nodiscard]] MountRequest mount_request() const {
    return {.directory = options_.mount_point,
            .source = image_path_.native(),
            .allow_other = options_.allow_other || options_.allow_root,
            .nonempty = options_.nonempty,
            .no_exec = options_.no_exec,
            .allow_devices = options_.allow_devices,
            .allow_set_id = options_.allow_set_id};
  }

  // Recording is for a training run, which can't go on with half a record.
  [[nodiscard]] bool supervised() const { return options_.supervise && options_.record.empty(); }

  [[nodiscard]] WorkerFiles files() const {
    const PartialImage* const partial = image_.partial();
    return {.device = mount_->device(),
            .image = image_.descriptor(),
            .state = memory_->descriptor(),
            .map = partial != nullptr ? partial->map() : -1,
            .ask = partial != nullptr ? partial->ask() : -1};
  }

  // Of an image that is being fetched.
  [[gnu::cold]] void look_after_fetcher() {
    attempt([this] { ensure_fetcher(*image_.partial()); });
  }

  void start_worker() {
    worker_ = supervised() ? WorkerProcess::fork(options_, files())
                           : WorkerProcess::start_thread(options_, files());
    worker_->control().send(Word::kGo);
  }

  // Programs that use it get errors; without a daemon they would wait for ever.
  void give_mount_up() noexcept {
    try {
      mount_->detach();
    } catch (const std::exception& error) {
      log_.error(error.what());
    }
  }

  // What a step of the supervisor fails of (no memory, no process, no fusermount3) is no reason to
  // take the mount from its users: it is logged, and tried again. Returns whether nothing failed.
  template <typename Action>
  bool attempt(Action&& action) noexcept {
    try {
      action();
      return true;
    } catch (const std::exception& error) {
      log_failure(error.what());
    }
    return false;
  }

  // Once for the same failure again and again.
  void log_failure(const char* what) noexcept {
    try {
      if (last_failure_ == what) return;
      log_.error(what);
      last_failure_ = what;
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
      // No memory for a line. It goes on all the same.
    }
  }

  enum Waiting : std::size_t { kSignals, kWorker, kWorkerEnd, kStandby, kNotifier, kCount };

  // Waits for something to happen, and does what follows from it. Only kEnded or a verdict ends the
  // supervisor, and nothing that fails in here.
  void step() noexcept {
    if (!worker_ && attempt([this] { start_worker(); })) last_failure_.clear();
    std::array<pollfd, kCount> waiting{};
    waiting[kSignals] = {signals_.get(), POLLIN, 0};
    waiting[kWorker] = {worker_ ? worker_->control().descriptor() : -1, POLLIN, 0};
    waiting[kWorkerEnd] = {worker_ ? worker_->ended() : -1, POLLIN, 0};
    waiting[kStandby] = {standby_ ? standby_->control().descriptor() : -1, POLLIN, 0};
    waiting[kNotifier] = {readiness_.notifier(), POLLIN, 0};
    if (::poll(waiting.data(), waiting.size(), milliseconds()) < 0) {
      // The kernel may have no memory: waits before it tries again.
      if (errno != EINTR) ::poll(nullptr, 0, kRetryMilliseconds);
      return;
    }
    if (!attempt([&] { act_on(waiting); })) ::poll(nullptr, 0, kRetryMilliseconds);
    // Even if the rest of the step failed.
    attempt(
        [this] { std::erase_if(leftovers_, [](const auto& worker) { return worker->reap(); }); });
    if (end_wanted_ && state_ != State::kEnded) {
      end_wanted_ = !attempt([this] { end(); });
    } else if (state_ == State::kServing) {
      attempt([this] { look_idle(); });
    }
    if (waits_for_rest()) attempt([this] { look_for_rest(); });
    // A worker would have said so.
    if (!worker_ && !mount_->is_connected()) state_ = State::kEnded;
  }

  // How long step() may wait.
  [[nodiscard]] int milliseconds() const {
    if (!worker_) return kRetryMilliseconds;
    if (end_wanted_ || waits_for_rest()) return kPauseMilliseconds;
    return state_ == State::kServing ? idle_.milliseconds() : -1;
  }

  void act_on(const std::array<pollfd, kCount>& waiting) {
    if (waiting[kSignals].revents != 0) {
      read_signals(signals_.get());
      end_wanted_ = true;
      last_failure_.clear();
    }
    if (waiting[kStandby].revents != 0) hear_standby();
    if (waiting[kNotifier].revents != 0) readiness_.collect_notifier();
    if (waiting[kWorkerEnd].revents != 0) {
      // First what it said before it ended.
      while (const auto message = worker_->control().receive_now()) hear(*message);
      worker_ended();
    } else if (waiting[kWorker].revents != 0) {
      const auto message = worker_->control().receive();
      if (message) {
        hear(*message);
      } else {
        worker_->expect_end();
        worker_ended();
      }
    }
  }

  [[nodiscard]] bool waits_for_rest() const { return registration_ && image_.partial() && !whole_; }

  // Once everything is fetched, the image's name leads to another file, by which it is looked for.
  [[gnu::cold]] void look_for_rest() {
    whole_ = image_.partial()->head().is_whole != 0;
    if (whole_) registration_.emplace(image_path_, mount_->directory());
  }

  void look_idle() {
    const IdleWatch::Step step = idle_.look((*memory_)->statistics.all_requests());
    if (!step.try_expiry) return;
    UnmountResult result = mount_->expire();
    if (result == UnmountResult::kBusy && step.may_unmount) result = mount_->unmount();
    if (result == UnmountResult::kDone) leave_copies();
  }

  // It was unmounted because it was idle. A mount namespace that was made meanwhile (by a
  // container, by `unshare -m`) has a copy of the mount. Programs there may have files mapped or
  // open although they request nothing, and must not lose them because of a timeout: so copies are
  // served until they are gone too, or until the daemon is told to end. Another start can mount on
  // the directory here.
  void leave_copies() {
    state_ = State::kLeft;
    registration_.reset();
    if (!mount_->is_connected() || mount_->is_mounted_here()) return;
    log_.info(
        "unmounted, as nobody used it here; a copy of the mount in another mount namespace is "
        "served until that ends");
  }

  void hear(const Message& message) {
    switch (message.word) {
      case Word::kReady:
        if (!is_ready_) announce();
        break;
      case Word::kFailed:
        remember_failure(message.text);
        break;
      case Word::kEnd:
        end_wanted_ = true;
        break;
      case Word::kReload:
        reload();
        break;
      case Word::kError:
        log_.error(message.text);
        break;
      case Word::kAbsent:
        look_after_fetcher();
        break;
      case Word::kInfo:
        log_.info(message.text);
        break;
      default:
        break;
    }
  }

  void remember_failure(const std::string& text) {
    if (text.empty()) return;
    failure_.emplace(static_cast<ExitCode>(static_cast<unsigned char>(text[0])), text.substr(1));
  }

  void worker_ended() {
    const auto lived = Clock::now() - worker_->started();
    const pid_t id = worker_->id();
    const WorkerProcess::End end = worker_->wait();
    if (worker_->reap()) {
      worker_.reset();
    } else {
      leftovers_.push_back(std::move(worker_));
    }
    if (state_ == State::kAborting) {
      state_ = State::kEnded;
      return;
    }
    if (draining_) return go_on_with_standby();
    if (end.clean) {
      if (is_ready_) {
        state_ = State::kEnded;
      } else {
        verdict_.emplace(ExitCode::kFailed, "the mount was unmounted before it could be used");
      }
      return;
    }
    // After INIT was answered a worker can be replaced, whether its readiness was reported or not.
    if (!(*memory_)->resume.is_open() || !supervised()) {
      if (!failure_) {
        failure_.emplace(ExitCode::kFailed, "cannot serve the mount: the worker " + end.how +
                                                " before it could serve; report it");
      }
      verdict_ = failure_;
      return;
    }
    short_lives_ = lived < kTooShort ? short_lives_ + 1 : 0;
    standby_.reset();
    (*memory_)->statistics.worker_restarts.add();
    const std::string why = failure_ ? end.how + ": " + failure_->what() : end.how;
    failure_.reset();
    if (short_lives_ >= kMostShortLives) {
      verdict_.emplace(ExitCode::kFailed,
                       "the worker died " + std::to_string(kMostShortLives) +
                           " times within a second (the last one " + why +
                           "): the mount is given up; check the image with pyram-image verify");
    }
    log_.error("the worker " + (id > 0 ? std::to_string(id) + " " : std::string()) + why +
               (verdict_ ? "" : "; another one goes on"));
  }

  // The worker of the program that is on disk now is made ready first, then the one that serves
  // ends, then the new one goes on: requests that come in between wait in the kernel.
  void reload() {
    if (standby_) return worker_->control().send(Word::kRefused, "another reload is under way");
    if (state_ == State::kAborting)
      return worker_->control().send(Word::kRefused, "it is about to end");
    try {
      standby_ = WorkerProcess::exec(program_, own_command_line(), files());
    } catch (const Error& error) {
      worker_->control().send(Word::kRefused, error.what());
    }
  }

  void hear_standby() {
    const std::optional<Message> message = standby_->control().receive();
    if (!message) {
      std::string why = "the worker of " + quote(program_) + ' ' + standby_->wait().how;
      if (failure_) why = failure_->what();
      failure_.reset();
      standby_.reset();
      if (!draining_) worker_->control().send(Word::kRefused, why);
    } else if (message->word == Word::kFailed) {
      remember_failure(message->text);
    } else if (message->word == Word::kPrepared && !draining_) {
      draining_ = true;
      worker_->control().send(Word::kDrain);
    }
  }

  void go_on_with_standby() {
    draining_ = false;
    failure_.reset();
    if (!standby_) return;  // It died meanwhile: one of our own goes on.
    worker_ = std::move(standby_);
    worker_->control().send(Word::kGo);
    (*memory_)->statistics.worker_reloads.add();
    log_.info("a worker of " + quote(program_) + " goes on");
  }

  void announce() {
    is_ready_ = true;
    if (state_ == State::kStarting) state_ = State::kServing;
    // Without it the mount is not found by its image, but serves.
    if (options_.allow_other && options_.device < 0) {
      attempt([this] { registration_.emplace(image_path_, mount_->directory()); });
    }
    if (!options_.foreground) {
      log_.set_target(Log::Target::kSyslog);
      leave_terminal();
    }
    // What the start needed is not needed any more, and this process lives for long.
    ::malloc_trim(0);
    readiness_.succeed();
    notify_service_manager("READY=1");
  }

  // Ends because it was asked to. Programs that use the mount are served until they are done. A
  // copy of the mount in another mount namespace is not waited for: it may be there for as long as
  // the machine runs, and `systemctl stop` has to stop the service.
  void end() {
    notify_service_manager("STOPPING=1");
    if (state_ == State::kDetached || state_ == State::kAborting) return;
    // Whoever mounted takes the mount away.
    if (options_.device >= 0) return abort();
    const UnmountResult result = mount_->unmount();
    if (result == UnmountResult::kBusy) {
      mount_->detach();
      state_ = State::kDetached;
      log_.info("the mount was in use: it is detached, and served until its users end");
    } else if (mount_->is_connected()) {
      // A mount that another program took away may have been in use.
      if (result == UnmountResult::kDone) state_ = State::kLeft;
      if (state_ == State::kLeft && !mount_->is_mounted_here()) {
        log_.info("a copy of the mount in another mount namespace ends with the daemon");
        abort();
      } else {
        log_.info("the mount is in use elsewhere: it is served until its users end");
      }
    }
    registration_.reset();
  }

  // Ends although the file system is mounted somewhere: when the last descriptor of the connection
  // is closed the connection ends, and programs that use the mount get errors. The worker has to
  // end by itself. It can't be killed while it puts pages into the kernel's cache that a program
  // waits for, since only the worker can answer that READ, and it has the connection open as long.
  void abort() {
    state_ = State::kAborting;
    standby_.reset();
    if (!worker_) {
      state_ = State::kEnded;
    } else if (!draining_) {
      worker_->control().send(Word::kDrain);
    }
  }

  const Options& options_;
  Readiness& readiness_;
  const std::string program_;
  UniqueFd signals_;
  Log log_;
  const std::filesystem::path image_path_;
  ImageFile image_;
  std::optional<MountPoint> mount_;
  std::optional<SharedMemory> memory_;
  std::optional<Registration> registration_;
  IdleWatch idle_;
  std::unique_ptr<WorkerProcess> worker_;   // None: it died, and its successor is not started yet.
  std::unique_ptr<WorkerProcess> standby_;  // Of a newer program, and not serving yet.
  std::vector<std::unique_ptr<WorkerProcess>> leftovers_;  // Killed, and not gone yet.
  State state_ = State::kStarting;
  bool whole_ = false;       // Of an image that was being fetched: everything is here.
  bool is_ready_ = false;    // The process that started the daemon was told that the mount serves.
  bool end_wanted_ = false;  // It was asked to end, and end() has not succeeded yet.
  bool draining_ = false;    // The worker was told to end for the standby one.
  std::optional<Error> verdict_;  // Why the mount is given up.
  std::string last_failure_;      // The last that was logged.
  int short_lives_ = 0;
  std::optional<Error> failure_;  // What a worker said before it ended.
};

}  // namespace

void run_daemon(const Options& options, ImageFile image, Readiness& readiness) {
  ::mallopt(M_ARENA_MAX, 1);
  Supervisor(options, std::move(image), readiness).run();
}

}  // namespace pyram
