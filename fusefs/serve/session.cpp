#include "fusefs/serve/session.h"

#include <linux/fuse.h>
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

#include "fusefs/serve/fuse_api.h"
#include "support/error.h"

namespace pyram {
namespace {

// Linux 6.9: the requests that were taken and not answered are put before the others again. Newer
// than Debian 12's headers.
constexpr std::int32_t kNotifyResend = 7;

// Those that nobody waits for.
bool wants_answer(std::uint32_t opcode) {
  return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

// Everything that the kernel sends comes through here, and so does every answer.
// Takes a request by way of memory that outlives us.
ssize_t take(int device, std::span<std::byte> buffer, Transport& transport) {
  thread_local const unsigned thread = transport.threads++;
  ResumeState::Header& header = transport.resume.header_of(thread);
  header.fill({});
  const std::span<std::byte> rest = buffer.subspan(header.size());
  const std::array<iovec, 2> pieces = {
      {{header.data(), header.size()}, {rest.data(), rest.size()}}};
  const ssize_t got = ::readv(device, pieces.data(), pieces.size());
  if (got > 0) std::ranges::copy(header, buffer.begin());
  return got;
}

ssize_t receive(int device, void* buffer, std::size_t size, void* user_data) {
  Transport& transport = static_cast<FileSystem*>(user_data)->transport();
  const bool remembers = transport.remembers();
  const ssize_t got = remembers ? take(device, {static_cast<std::byte*>(buffer), size}, transport)
                                : ::read(device, buffer, size);
  if (got >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
    const auto& header = *static_cast<const fuse_in_header*>(buffer);
    FileSystem& file_system = *static_cast<FileSystem*>(user_data);
    Statistics& statistics = file_system.statistics();
    statistics.requests[header.opcode < Statistics::kOpcodes ? header.opcode : 0].add();
    if (header.opcode == FUSE_INIT) {
      transport.resume.save_init(
          {static_cast<const std::byte*>(buffer), static_cast<std::size_t>(got)});
    } else if (remembers && wants_answer(header.opcode)) {
      transport.resume.begin(header.unique);
    }
  }
  return got;
}

ssize_t send(int device, iovec* pieces, int count, void* user_data) {
  Transport& transport = static_cast<FileSystem*>(user_data)->transport();
  const fuse_out_header header = *static_cast<const fuse_out_header*>(pieces[0].iov_base);
  if (transport.replaying) return header.len;
  const ssize_t sent = ::writev(device, pieces, count);
  if (header.unique == 0) return sent;  // We wrote of our own accord.
  const int error = errno;
  if (transport.remembers()) transport.resume.end(header.unique);
  if (sent >= 0 && header.error == 0 && !transport.resume.is_open() &&
      header.unique == transport.resume.init_id()) {
    transport.resume.set_open();
    if (transport.opened) transport.opened();
  }
  errno = error;
  return sent;
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

Session::Session(FileSystem& file_system, UniqueFd device, bool debug)
    : file_system_(file_system), ended_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!ended_) throw system_error(ExitCode::kFailed, errno, "make an event descriptor");
  std::array<std::string, 2> words = {"pyram-mount", "-odebug"};
  std::array<char*, 2> pointers = {words[0].data(), words[1].data()};
  fuse_args arguments = FUSE_ARGS_INIT(debug ? 2 : 1, pointers.data());
  const fuse_lowlevel_ops& operations = FileSystem::operations();
  session_.reset(fuse_session_new(&arguments, &operations, sizeof(operations), &file_system));
  fuse_opt_free_args(&arguments);
  fuse_custom_io io{};
  io.writev = send;
  io.read = receive;
  if (!session_ || fuse_session_custom_io(session_.get(), &io, device.get()) != 0) {
    throw Error(ExitCode::kNoFuse, "cannot start a FUSE session: libfuse refuses; see above");
  }
  static_cast<void>(device.release());  // The session closes it.
}

Session::~Session() { join(); }

void Session::take_over() {
  Transport& transport = file_system_.transport();
  std::vector<std::byte> init(transport.resume.init().begin(), transport.resume.init().end());
  fuse_buf buffer{};
  buffer.size = init.size();
  buffer.mem = init.data();
  transport.replaying = true;
  fuse_session_process_buf(session_.get(), &buffer);
  transport.replaying = false;

  const std::vector<std::uint64_t> unanswered = transport.resume.take_in_flight();
  const int device = fuse_session_fd(session_.get());
  fuse_out_header header{};
  header.len = sizeof(header);
  header.error = kNotifyResend;
  if (transport.can_resend && ::write(device, &header, sizeof(header)) == sizeof(header)) return;
  header.error = -EIO;
  for (const std::uint64_t request : unanswered) {
    header.unique = request;
    // One that was answered after all, the kernel knows no more.
    [[maybe_unused]] const ssize_t ignored = ::write(device, &header, sizeof(header));
  }
}

unsigned Session::start(unsigned threads) {
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

bool Session::store(const Image& image, InodeRef file, std::uint64_t offset,
                    std::span<const std::byte> bytes) {
  fuse_bufvec vector = FUSE_BUFVEC_INIT(bytes.size());
  vector.buf[0].mem = const_cast<std::byte*>(bytes.data());  // NOLINT: only read
  return fuse_lowlevel_notify_store(session_.get(), to_node(image, file),
                                    static_cast<off_t>(offset), &vector, FUSE_BUF_NO_SPLICE) == 0;
}

void Session::serve() {
  fuse_buf buffer{};
  while (!draining_) {
    const int got = fuse_session_receive_buf(session_.get(), &buffer);
    if (got == -EINTR) continue;
    if (got == 0 || got == -ECONNABORTED) unmounted_ = true;
    if (got <= 0) break;
    fuse_session_process_buf(session_.get(), &buffer);
  }
  // libfuse allocated it at the first call.
  const std::unique_ptr<void, FreeMemory> owner(buffer.mem);
  --running_;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(ended_.get(), &one, sizeof(one));
}

}  // namespace pyram
