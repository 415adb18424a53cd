#include "fusefs/session.h"

#include <linux/fuse.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "fusefs/fuse_api.h"
#include "support/error.h"

namespace pyram {
namespace {

// Everything that the kernel sends comes through here, and so does every answer.
ssize_t receive(int device, void* buffer, std::size_t size, void* user_data) {
  const ssize_t got = ::read(device, buffer, size);
  if (got >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
    const std::uint32_t opcode = static_cast<const fuse_in_header*>(buffer)->opcode;
    Statistics& statistics = static_cast<FileSystem*>(user_data)->statistics();
    statistics.requests[opcode < Statistics::kOpcodes ? opcode : 0].add();
  }
  return got;
}

ssize_t send(int device, iovec* pieces, int count, void*) {
  return ::writev(device, pieces, count);
}

struct FreeMemory {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

}  // namespace

void Session::Destroy::operator()(fuse_session* session) const noexcept {
  fuse_session_destroy(session);
}

Session::Session(FileSystem& file_system, UniqueFd device, bool debug)
    : ended_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
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

void Session::start(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { serve(); });
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
  while (fuse_session_exited(session_.get()) == 0) {
    const int got = fuse_session_receive_buf(session_.get(), &buffer);
    if (got == -EINTR) continue;
    if (got <= 0) break;
    fuse_session_process_buf(session_.get(), &buffer);
  }
  // libfuse allocated it at the first call.
  const std::unique_ptr<void, FreeMemory> owner(buffer.mem);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(ended_.get(), &one, sizeof(one));
}

}  // namespace pyram
