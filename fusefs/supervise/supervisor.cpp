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
#include "fusefs/supervise/idle_watch.h"
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

// What was open stays so for nobody: a pipe that we inherited would never end for its reader.
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

// How it was called: of a program that is ours among other things, also what tells it to be ours.
std::vector<std::string> own_command_line() {
  std::vector<std::string> words;
  const std::string text = read_file("/proc/self/cmdline");
  for (std::string_view rest = text; !rest.empty();) words.emplace_back(take_part(rest, '\0'));
  return words;
}

std::filesystem::path path_of_image(const Options& options) {
  std::error_code error;
  const auto canonical = std::filesystem::canonical(options.image, error);
  return error ? std::filesystem::absolute(options.image) : canonical;
}

class Supervisor {
 public:
  Supervisor(const Options& options, Readiness& readiness)
      : options_(options),
        readiness_(readiness),
        program_(own_program()),
        signals_(open_signals()),
        image_path_(path_of_image(options)),
        image_(open_image(options.image, options.offset)),
        idle_(options.idle_timeout) {}

  void run() {
    mount_.emplace(MountPoint::mount({.directory = options_.mount_point,
                                      .source = image_path_.native(),
                                      .allow_other = options_.allow_other || options_.allow_root,
                                      .nonempty = options_.nonempty,
                                      .no_exec = options_.no_exec}));
    try {
      memory_.emplace(SharedMemory::create(image_path_.native(), mount_->directory().native()));
      start_worker();
      while (!ended_ && !verdict_) step();
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
  // Recording is for a training run, which can't go on with half a record.
  [[nodiscard]] bool supervised() const { return options_.supervise && options_.record.empty(); }

  [[nodiscard]] WorkerFiles files() const {
    return {
        .device = mount_->device(), .image = image_.descriptor(), .state = memory_->descriptor()};
  }

  void start_worker() {
    worker_ = supervised() ? WorkerProcess::fork(options_, files())
                           : WorkerProcess::start_thread(options_, files());
    worker_->control().send(Word::kGo);
  }

  // Programs that use it see errors; without us they would wait for ever.
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

  enum Waiting : std::size_t { kSignals, kWorker, kWorkerEnd, kStandby, kCount };

  // Waits for something to happen, and does what follows from it. What ends the supervisor is
  // ended_ or verdict_, and nothing that fails in here.
  void step() noexcept {
    if (!worker_ && attempt([this] { start_worker(); })) last_failure_.clear();
    std::array<pollfd, kCount> waiting{};
    waiting[kSignals] = {signals_.get(), POLLIN, 0};
    waiting[kWorker] = {worker_ ? worker_->control().descriptor() : -1, POLLIN, 0};
    waiting[kWorkerEnd] = {worker_ ? worker_->ended() : -1, POLLIN, 0};
    waiting[kStandby] = {standby_ ? standby_->control().descriptor() : -1, POLLIN, 0};
    if (::poll(waiting.data(), waiting.size(), milliseconds()) < 0) {
      // It may be that there is no memory: not at once again.
      if (errno != EINTR) ::poll(nullptr, 0, kRetryMilliseconds);
      return;
    }
    if (!attempt([&] { act_on(waiting); })) ::poll(nullptr, 0, kRetryMilliseconds);
    // Even if the rest of the step failed.
    attempt(
        [this] { std::erase_if(leftovers_, [](const auto& worker) { return worker->reap(); }); });
    if (end_wanted_ && !ended_) {
      end_wanted_ = !attempt([this] { end(); });
    } else if (is_ready_ && !ended_) {
      attempt([this] { look_idle(); });
    }
    // The worker would have told; without one nobody else does.
    if (!worker_ && !mount_->is_connected()) ended_ = true;
  }

  // How long step() may wait.
  [[nodiscard]] int milliseconds() const {
    if (!worker_) return kRetryMilliseconds;
    if (end_wanted_) return kPauseMilliseconds;
    return is_ready_ ? idle_.milliseconds() : -1;
  }

  void act_on(const std::array<pollfd, kCount>& waiting) {
    if (waiting[kSignals].revents != 0) {
      read_signals(signals_.get());
      end_wanted_ = true;
      last_failure_.clear();
    }
    if (waiting[kStandby].revents != 0) hear_standby();
    if (waiting[kWorkerEnd].revents != 0) {
      // What it said before is to be heard before.
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

  void look_idle() {
    const IdleWatch::Step step = idle_.look((*memory_)->statistics.all_requests());
    if (!step.try_expiry) return;
    UnmountResult result = mount_->expire();
    if (result == UnmountResult::kBusy && step.may_unmount) result = mount_->unmount();
    if (result == UnmountResult::kDone) leave_copies();
  }

  // It was unmounted because nobody used it. Who made a mount namespace meanwhile (a container,
  // `unshare -m`) has a copy of the mount in it. That nobody asked for anything does not say that
  // no program there has files mapped or open, and they must not lose them for the sake of a
  // timeout: so copies are served until they are gone too, or somebody ends us. Here the place is
  // free for another start.
  void leave_copies() {
    has_left_ = true;
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
    if (is_aborting_) {
      ended_ = true;
      return;
    }
    if (draining_) return go_on_with_standby();
    if (end.clean) {
      if (is_ready_) {
        ended_ = true;
      } else {
        verdict_.emplace(ExitCode::kFailed, "the mount was unmounted before it could be used");
      }
      return;
    }
    // One that had agreed with the kernel already can be replaced, told or not.
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
    if (standby_) return worker_->control().send(Word::kRefused, "somebody else is at it");
    if (is_aborting_) return worker_->control().send(Word::kRefused, "it is about to end");
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
    // Without it the mount is not found by its image, but serves.
    if (options_.allow_other) {
      attempt([this] { registration_.emplace(image_path_, mount_->directory()); });
    }
    if (!options_.foreground) {
      log_.set_target(Log::Target::kSyslog);
      leave_terminal();
    }
    // What it took to get here is not needed any more, and we stay for long.
    ::malloc_trim(0);
    readiness_.succeed();
    notify_service_manager("READY=1");
  }

  // Somebody asked us to end. Those who use the mount are served until they are done. But for a
  // copy of it in another mount namespace nobody waits: that may be there for as long as the
  // machine runs, and whoever stops a service wants it stopped.
  void end() {
    notify_service_manager("STOPPING=1");
    if (is_detached_ || is_aborting_) return;
    const UnmountResult result = mount_->unmount();
    if (result == UnmountResult::kBusy) {
      mount_->detach();
      is_detached_ = true;
      log_.info("the mount was in use: it is detached, and served until its users end");
    } else if (mount_->is_connected()) {
      // Where somebody else took the mount away, it may have been in use.
      has_left_ = has_left_ || result == UnmountResult::kDone;
      if (has_left_ && !mount_->is_mounted_here()) {
        log_.info("a copy of the mount in another mount namespace ends with the daemon");
        abort();
      } else {
        log_.info("the mount is in use elsewhere: it is served until its users end");
      }
    }
    registration_.reset();
  }

  // Ends although the file system is mounted somewhere: the last one who closes the connection ends
  // it, and whoever uses it gets errors. The worker has to end by itself: one that puts pages into
  // the kernel's cache can't be killed while a reader holds them that only it can answer, and has
  // the connection open as long.
  void abort() {
    is_aborting_ = true;
    standby_.reset();
    if (!worker_) {
      ended_ = true;
    } else if (!draining_) {
      worker_->control().send(Word::kDrain);
    }
  }

  static ImageFile open_image(const std::filesystem::path& path, std::uint64_t offset) {
    ImageFile file = Image::open_file(path, offset);
    Image::check(file);
    // Where a block was read ahead and the next one is read, the system sees one who reads on and
    // on, and would read up to megabytes more. What is needed soon is told (ImageFile::read_ahead).
    file.expect_random_reads();
    return file;
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
  std::unique_ptr<WorkerProcess> worker_;   // None: it died, and there is no other yet.
  std::unique_ptr<WorkerProcess> standby_;  // Of a newer program, and not serving yet.
  std::vector<std::unique_ptr<WorkerProcess>> leftovers_;  // Dead, but not gone yet.
  bool draining_ = false;  // The worker was told to end for the standby one.
  bool is_ready_ = false;
  bool end_wanted_ = false;   // Somebody asked for it, and end() did not do it yet.
  bool is_detached_ = false;  // It was in use when we were to end: served until its users end.
  bool is_aborting_ = false;  // Ends although there are copies of the mount in other namespaces.
  bool has_left_ = false;     // We unmounted it: at most copies of it are left.
  bool ended_ = false;
  std::optional<Error> verdict_;  // Why the mount is given up.
  std::string last_failure_;      // The last that was logged.
  int short_lives_ = 0;
  std::optional<Error> failure_;  // What a worker said before it ended.
};

}  // namespace

void run_daemon(const Options& options, Readiness& readiness) {
  ::mallopt(M_ARENA_MAX, 1);
  Supervisor(options, readiness).run();
}

}  // namespace pyram
