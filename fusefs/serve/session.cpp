#include "fusefs/serve/session.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "fusefs/serve/file_system.h"
#include "fusefs/serve/fuse_api.h"
#include "fusefs/serve/transport.h"
#include "support/error.h"

namespace pyram {
namespace {

ssize_t receive(int, void* buffer, std::size_t size, void* user_data) {
  return FuseUser::of(user_data).transport.receive({static_cast<std::byte*>(buffer), size});
}

ssize_t send(int, iovec* pieces, int count, void* user_data) {
  return FuseUser::of(user_data).transport.send({pieces, static_cast<std::size_t>(count)});
}

// Only there so that a system call returns with EINTR.
void do_nothing(int) {}

struct FreeMemory {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

}  // namespace

void Session::Destroy::operator()(fuse_session* session) const noexcept {
  fuse_session_destroy(session);
}

Session::Session(FileSystem& file_system, Transport& transport, bool debug)
    : user_(std::make_unique<FuseUser>(file_system, transport)),
      ended_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!ended_) throw system_error(ExitCode::kFailed, errno, "make an event descriptor");
  std::array<std::string, 2> words = {"pyram-mount", "-odebug"};
  std::array<char*, 2> pointers = {words[0].data(), words[1].data()};
  fuse_args arguments = FUSE_ARGS_INIT(debug ? 2 : 1, pointers.data());
  const fuse_lowlevel_ops& operations = FileSystem::operations();
  session_.reset(fuse_session_new(&arguments, &operations, sizeof(operations), user_.get()));
  fuse_opt_free_args(&arguments);
  fuse_custom_io io{};
  io.writev = send;
  io.read = receive;
  // libfuse closes the descriptor that it is given, so it gets one of its own.
  UniqueFd device(::fcntl(transport.device(), F_DUPFD_CLOEXEC, 0));
  if (!device) throw system_error(ExitCode::kNoFuse, errno, "start a FUSE session");
  if (!session_ || fuse_session_custom_io(session_.get(), &io, device.get()) != 0) {
    throw Error(ExitCode::kNoFuse, "cannot start a FUSE session: libfuse refuses; see above");
  }
  static_cast<void>(device.release());
}

Session::~Session() { join(); }

void Session::keep_waiting(const PartialImage& partial, std::function<void()> asked_in_vain) {
  waiting_.emplace(
      partial, [this](std::span<std::byte> request) { process(request); },
      std::move(asked_in_vain));
}

void Session::process(std::span<std::byte> request) {
  fuse_buf buffer{};
  buffer.size = request.size();
  buffer.mem = request.data();
  fuse_session_process_buf(session_.get(), &buffer);
}

void Session::join() {
  threads_.clear();
  if (waiting_) waiting_->stop();
}

void Session::take_over() {
  user_->transport.replay_init([this](std::span<std::byte> request) { process(request); });
  user_->transport.recover_requests();
}

unsigned Session::start(unsigned threads) {
  if (waiting_) waiting_->start();
  threads_.reserve(threads);
  for (unsigned i = 0; i < threads; ++i) {
    ++running_;
    try {
      threads_.emplace_back([this] { serve(); });
    } catch (const std::exception& error) {
      --running_;
      // Those that run wait for the kernel, and nothing but its next request wakes them: they
      // serve.
      if (i > 0) break;
      throw Error(ExitCode::kFailed,
                  std::string("cannot start a thread that serves: ") + error.what());
    }
  }
  return running_;
}

void Session::drain() {
  struct sigaction action {};
  action.sa_handler = do_nothing;  // And no SA_RESTART.
  ::sigaction(SIGUSR1, &action, nullptr);
  draining_ = true;
  // A thread that looked at draining_ just before may wait in read just after the signal: so more
  // than one may be needed.
  while (running_ > 0) {
    for (std::jthread& thread : threads_) ::pthread_kill(thread.native_handle(), SIGUSR1);
    constexpr int kMilliseconds = 5;
    ::poll(nullptr, 0, kMilliseconds);
  }
  join();
}

void Session::serve() {
  fuse_buf buffer{};
  while (!draining_) {
    const int got = fuse_session_receive_buf(session_.get(), &buffer);
    if (got == -EINTR) continue;
    if (got == 0 || got == -ECONNABORTED) unmounted_ = true;
    if (got <= 0) break;
    if (waiting_) {
      waiting_->process_or_keep({static_cast<std::byte*>(buffer.mem), buffer.size});
    } else {
      fuse_session_process_buf(session_.get(), &buffer);
    }
  }
  // libfuse allocated it at the first call.
  const std::unique_ptr<void, FreeMemory> owner(buffer.mem);
  --running_;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(ended_.get(), &one, sizeof(one));
}

}  // namespace pyram
