#include "fusefs/supervise/shared_state.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

#include "support/error.h"

namespace pyram {
namespace {

// Room for what newer versions add; pages that are not touched cost nothing.
constexpr std::size_t kSize = std::size_t{64} << 10;
static_assert(sizeof(SharedState) <= kSize);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

void copy_path(std::array<char, PATH_MAX>& to, const std::string& from) {
  std::copy_n(from.begin(), std::min(from.size(), to.size() - 1), to.begin());
}

}  // namespace

SharedMemory::SharedMemory(UniqueFd descriptor) : descriptor_(std::move(descriptor)) {
  void* const memory =
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_.get(), 0);
  if (memory == MAP_FAILED) throw system_error(ExitCode::kFailed, errno, "map shared memory");
  state_ = static_cast<SharedState*>(memory);
}

SharedMemory SharedMemory::create(const std::string& image, const std::string& mount_point) {
  UniqueFd descriptor(::memfd_create("pyram-mount", MFD_CLOEXEC));
  if (!descriptor || ::ftruncate(descriptor.get(), kSize) != 0) {
    throw system_error(ExitCode::kFailed, errno, "make shared memory",
                       errno == EFBIG ? "raise the limit of file sizes (ulimit -f) to 64 KiB" : "");
  }
  SharedMemory memory(std::move(descriptor));
  SharedState& state = *::new (memory.state_) SharedState;
  state.daemon = ::getpid();
  state.started =
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  copy_path(state.image, image);
  copy_path(state.mount_point, mount_point);
  return memory;
}

SharedMemory SharedMemory::attach(UniqueFd descriptor) {
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0 || status.st_size < static_cast<off_t>(kSize)) {
    throw Error(ExitCode::kFailed, "cannot take the mount over: its daemon's state is missing");
  }
  SharedMemory memory(std::move(descriptor));
  if (memory->version != SharedState::kVersion) {
    throw Error(ExitCode::kFailed,
                "cannot take the mount over: its daemon's version is too different; unmount it and "
                "mount it again");
  }
  return memory;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : descriptor_(std::move(other.descriptor_)), state_(std::exchange(other.state_, nullptr)) {}

SharedMemory::~SharedMemory() {
  if (state_ != nullptr) ::munmap(state_, kSize);
}

}  // namespace pyram
