#include "fusefs/supervise/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "support/error.h"
#include "support/pipe.h"

namespace pyram {
namespace {

// Where a worker finds its handles, in the order of WorkerHandles.
constexpr int kFirstHandle = STDERR_FILENO + 1;
constexpr int kHandles = 5;
constexpr int kPartialHandles = kHandles + 2;

UniqueFd copy_of(int descriptor) {
  UniqueFd copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, kFirstHandle));
  if (!copy) throw system_error(ExitCode::kFailed, errno, "copy a descriptor");
  return copy;
}

DescriptorMap map_handles(int control, const WorkerFiles& files, int alive) {
  std::vector<DescriptorCopy> copies;
  const auto add = [&copies](int handle) {
    copies.push_back({handle, kFirstHandle + static_cast<int>(copies.size())});
  };
  for (const int handle : {control, files.device, files.image, files.state, alive}) add(handle);
  if (files.map >= 0) {
    add(files.map);
    add(files.ask);  // /dev/null where there is none.
  }
  return DescriptorMap(std::move(copies));
}

// In a new process: it ends with its supervisor, without which nothing could end it.
void end_with_parent(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
}

// In a new process: stderr stays where it is in the foreground, for what libraries say when they
// end a program.
void leave_standard_descriptors(bool foreground) {
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0) return;
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  if (!foreground) ::dup2(null, STDERR_FILENO);
  if (null > STDERR_FILENO) ::close(null);
}

std::string describe_end(Child& child) {
  const int code = child.wait();
  const int signal = child.ended_by();
  if (signal == 0) return "ended with code " + std::to_string(code);
  const char* const name = ::sigdescr_np(signal);
  return "was ended by signal " + std::to_string(signal) +
         (name != nullptr ? " (" + std::string(name) + ")" : "");
}

}  // namespace

WorkerHandles inherited_handles(bool is_partial) {
  const int count = is_partial ? kPartialHandles : kHandles;
  for (int i = 0; i < count; ++i) ::fcntl(kFirstHandle + i, F_SETFD, FD_CLOEXEC);
  WorkerHandles handles{.control = UniqueFd(kFirstHandle),
                        .device = UniqueFd(kFirstHandle + 1),
                        .image = UniqueFd(kFirstHandle + 2),
                        .state = UniqueFd(kFirstHandle + 3),
                        .alive = UniqueFd(kFirstHandle + 4)};
  if (is_partial) {
    handles.map.reset(kFirstHandle + 5);
    handles.ask.reset(kFirstHandle + 6);
  }
  return handles;
}

std::unique_ptr<WorkerProcess> WorkerProcess::fork(const Options& options,
                                                   const WorkerFiles& files) {
  auto ends = Control::make_pair();
  Pipe alive = make_pipe();
  std::unique_ptr<WorkerProcess> worker(
      new WorkerProcess(std::move(ends.first), std::move(alive.reader)));
  const pid_t parent = ::getpid();
  DescriptorMap handles = map_handles(ends.second.descriptor(), files, alive.writer.get());
  worker->child_.emplace(Child::fork("start a worker", [&] {
    end_with_parent(parent);
    leave_standard_descriptors(options.foreground);
    if (handles.apply(false) != 0) return 1;
    if (::close_range(static_cast<unsigned>(handles.first_free()), ~0U, 0) != 0) return 1;
    return run_worker(options, inherited_handles(files.map >= 0), WorkerKind::kProcess);
  }));
  return worker;
}

std::unique_ptr<WorkerProcess> WorkerProcess::exec(const std::string& program,
                                                   const std::vector<std::string>& arguments,
                                                   const WorkerFiles& files) {
  auto ends = Control::make_pair();
  Pipe alive = make_pipe();
  std::vector<std::string> words = arguments;
  if (words.empty()) throw Error(ExitCode::kFailed, "cannot see how this program was called");
  words.insert(words.begin() + 1,
               {"--worker", files.map >= 0 ? kPartialWorkerProtocol : kWorkerProtocol});
  std::unique_ptr<WorkerProcess> worker(
      new WorkerProcess(std::move(ends.first), std::move(alive.reader)));
  const pid_t parent = ::getpid();
  DescriptorMap handles = map_handles(ends.second.descriptor(), files, alive.writer.get());
  const Program successor{.arguments = words, .path = program};
  PreparedProgram prepared(successor);
  worker->child_.emplace(Child::fork("start a worker", [&] {
    end_with_parent(parent);
    if (handles.apply(true) == 0) static_cast<void>(prepared.become());
    return 127;
  }));
  return worker;
}

std::unique_ptr<WorkerProcess> WorkerProcess::start_thread(const Options& options,
                                                           const WorkerFiles& files) {
  auto ends = Control::make_pair();
  WorkerHandles handles{.control = copy_of(ends.second.descriptor()),
                        .device = copy_of(files.device),
                        .image = copy_of(files.image),
                        .state = copy_of(files.state),
                        .alive = UniqueFd()};
  if (files.map >= 0) handles.map = copy_of(files.map);
  if (files.ask >= 0) handles.ask = copy_of(files.ask);
  std::unique_ptr<WorkerProcess> worker(new WorkerProcess(std::move(ends.first), UniqueFd()));
  worker->thread_ =
      std::thread([raw = worker.get(), &options, handles = std::move(handles)]() mutable {
        raw->thread_code_ = run_worker(options, std::move(handles), WorkerKind::kThread);
      });
  return worker;
}

WorkerProcess::WorkerProcess(Control control, UniqueFd alive)
    : control_(std::move(control)), alive_(std::move(alive)) {}

WorkerProcess::~WorkerProcess() {
  if (!kill()) child_->release();
  // A thread that waits for the kernel ends with the process.
  if (thread_.joinable()) thread_.detach();
}

void WorkerProcess::expect_end() const {
  if (!child_) return;
  pollfd waiting{alive_.get(), POLLIN, 0};
  constexpr int kMilliseconds = 1000;
  while (::poll(&waiting, 1, kMilliseconds) < 0 && errno == EINTR) {
  }
}

WorkerProcess::End WorkerProcess::wait() {
  if (thread_.joinable()) {
    thread_.join();
    return {.clean = thread_code_ == 0, .how = "ended with code " + std::to_string(thread_code_)};
  }
  if (!kill()) return {.clean = false, .how = "ended while the kernel held it"};
  if (was_lost_) return {.clean = false, .how = "ended, and the kernel does not know how"};
  return {.clean = child_->wait() == 0, .how = describe_end(*child_)};
}

bool WorkerProcess::kill() noexcept {
  if (!child_) return true;
  // A worker that closed its end of the control socket and lives has failed.
  child_->signal(SIGKILL);
  pollfd gone{child_->descriptor(), POLLIN, 0};
  constexpr int kMilliseconds = 50;
  ::poll(&gone, 1, kMilliseconds);
  return reap();
}

bool WorkerProcess::reap() noexcept {
  if (!child_ || was_lost_) return true;
  try {
    return child_->wait_for(std::chrono::milliseconds::zero());
  } catch (const Error&) {
    was_lost_ = true;
    child_->release();
    return true;
  }
}

}  // namespace pyram
