#include "fusefs/image/partial_image.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <ctime>
#include <span>
#include <utility>
#include <vector>

#include "support/error.h"
#include "support/io.h"

namespace pyram {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kDirectory = "directory=";
// A fetcher that was started meanwhile has not heard of what was asked before.
constexpr std::chrono::seconds kAskAgain{1};
// How long a wait lasts before it looks for itself.
constexpr std::chrono::milliseconds kSlice{200};

thread_local Absent when_absent = Absent::kAskAndWait;

UniqueFd open_part(const std::string& directory, const char* part, int flags,
                   const std::string& name) {
  const std::string path = directory + part;
  UniqueFd file(::open(path.c_str(), flags | O_CLOEXEC));
  if (!file) {
    throw system_error(ExitCode::kBadImage, errno, "open " + quote(path) + " of the image " + name,
                       "pull it again");
  }
  return file;
}

UniqueFd copy_of(int descriptor) {
  if (descriptor < 0) return {};
  UniqueFd copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!copy) throw system_error(ExitCode::kFailed, errno, "copy a descriptor");
  return copy;
}

}  // namespace

std::string format_stub(std::string_view directory) {
  return std::string(kStubStart).append(kDirectory).append(directory).append("\n");
}

std::optional<std::string> parse_stub(std::string_view text) {
  if (!text.starts_with(kStubStart)) return std::nullopt;
  text.remove_prefix(kStubStart.size());
  const std::size_t end = text.find('\n');
  if (!text.starts_with(kDirectory) || end == std::string_view::npos) return std::nullopt;
  return std::string(text.substr(kDirectory.size(), end - kDirectory.size()));
}

bool MapHead::makes_sense() const {
  constexpr std::uint32_t kLargestChunk = 1U << 24;
  return magic == kMagic && version == kVersion && chunk_size >= 4096 &&
         chunk_size <= kLargestChunk && (chunk_size & (chunk_size - 1)) == 0 && data_size > 0 &&
         size > data_size && size < std::uint64_t{1} << 44;
}

WhenAbsent::WhenAbsent(Absent what) noexcept : outer_(std::exchange(when_absent, what)) {}
WhenAbsent::~WhenAbsent() { when_absent = outer_; }

PartialImage::Opened PartialImage::open(const std::string& directory, const std::string& name) {
  UniqueFd data = open_part(directory, "/data", O_RDONLY, name);
  UniqueFd map = open_part(directory, "/map", O_RDONLY, name);
  // For writing too: otherwise it could not be opened while no fetcher runs. Who may not ask gets
  // everything in its turn.
  UniqueFd ask(::open((directory + "/ask").c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  return {std::move(data),
          std::make_unique<PartialImage>(std::move(map), std::move(ask), name, directory)};
}

PartialImage::PartialImage(UniqueFd map, UniqueFd ask, std::string name, std::string directory)
    : map_(std::move(map)),
      ask_(std::move(ask)),
      name_(std::move(name)),
      directory_(std::move(directory)),
      first_head_(head()) {
  if (!first_head_.makes_sense()) {
    throw Error(ExitCode::kBadImage, "cannot use the image " + name_ +
                                         ": what says which parts of it are here makes no sense; "
                                         "remove it, and pull it again");
  }
  page_ = ::mmap(nullptr, MapHead::kRoom, PROT_READ, MAP_SHARED, map_.get(), 0);
  if (page_ == MAP_FAILED) throw system_error(ExitCode::kFailed, errno, "map a page of a file");
}

PartialImage::~PartialImage() { ::munmap(page_, MapHead::kRoom); }

std::unique_ptr<PartialImage> PartialImage::copy() const {
  auto other =
      std::make_unique<PartialImage>(copy_of(map_.get()), copy_of(ask_.get()), name_, directory_);
  other->set_patience(patience_);
  return other;
}

MapHead PartialImage::head() const {
  MapHead result;
  const auto bytes = std::as_writable_bytes(std::span(&result, 1));
  if (pread_full(map_.get(), bytes, 0) != bytes.size()) result.magic = {};
  result.last_error.back() = '\0';
  return result;
}

bool PartialImage::is_being_fetched() const {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(map_.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

bool PartialImage::is_here(ByteRange range) const {
  if (range.length == 0) return true;
  const std::uint32_t first = first_head_.chunk_of(range.position);
  const std::uint32_t last = first_head_.chunk_of(range.position + range.length - 1);
  std::array<std::byte, 256> few;
  for (std::uint64_t chunk = first; chunk <= last;) {
    const auto part = std::span(few).first(std::min<std::uint64_t>(few.size(), last + 1 - chunk));
    if (pread_full(map_.get(), part, MapHead::kRoom + chunk) != part.size() ||
        !std::ranges::all_of(part, [](std::byte state) { return state == std::byte{1}; })) {
      return false;
    }
    chunk += part.size();
  }
  return true;
}

void PartialImage::send(PartialRequest::Kind kind, ByteRange range) const {
  if (!ask_ || range.length == 0) return;
  PartialRequest request{.kind = kind, .first = first_head_.chunk_of(range.position)};
  request.count = first_head_.chunk_of(range.position + range.length - 1) - request.first + 1;
  // A pipe that is full has enough to do in it; and it is asked again.
  [[maybe_unused]] const ssize_t ignored = ::write(ask_.get(), &request, sizeof request);
}

void PartialImage::ask_for(ByteRange range) const { send(PartialRequest::Kind::kWanted, range); }
void PartialImage::announce(ByteRange range) const { send(PartialRequest::Kind::kSoon, range); }
void PartialImage::doubt(ByteRange range) const { send(PartialRequest::Kind::kDoubted, range); }

std::uint32_t PartialImage::changes() const { return head().changes; }

void PartialImage::wait_for_change(std::uint32_t seen, std::chrono::milliseconds at_most) const {
  const timespec time{.tv_sec = at_most.count() / 1000,
                      .tv_nsec = at_most.count() % 1000 * 1'000'000};
  const std::byte* const word = static_cast<std::byte*>(page_) + offsetof(MapHead, changes);
  if (::syscall(SYS_futex, word, FUTEX_WAIT, seen, &time, nullptr, 0) == 0) return;
  // Where the kernel can't, by the clock.
  if (errno != EAGAIN && errno != EINTR && errno != ETIMEDOUT) ::nanosleep(&time, nullptr);
}

void PartialImage::wake_waiters() const {
  const std::byte* const word = static_cast<std::byte*>(page_) + offsetof(MapHead, changes);
  ::syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void PartialImage::await(ByteRange range) const {
  if (is_here(range)) return;
  switch (when_absent) {
    case Absent::kThrow:
      throw NotHereYet(range);
    case Absent::kFail:
      throw Error(ExitCode::kFailed, describe_absence(range), EIO);
    case Absent::kWaitQuietly:
      return wait(range, false);
    case Absent::kAskAndWait:
      return wait(range, true);
  }
}

void PartialImage::wait(ByteRange range, bool asks) const {
  const auto start = Clock::now();
  auto asked = start - kAskAgain;
  for (;;) {
    const std::uint32_t seen = changes();
    if (is_here(range)) return;
    const auto now = Clock::now();
    const bool is_late = asks && patience_.count() > 0 && now - start >= patience_;
    if (is_late) throw Error(ExitCode::kFailed, describe_absence(range), EIO);
    if (!asks && quiet_waits_ended_) throw NotHereYet(range);
    if (asks && now - asked >= kAskAgain) {
      ask_for(range);
      asked = now;
    }
    wait_for_change(seen, kSlice);
  }
}

std::string PartialImage::describe_absence(ByteRange range) const {
  const MapHead now = head();
  std::string text = "the image " + name_ + " is being fetched, and its bytes " +
                     std::to_string(range.position) + " to " +
                     std::to_string(range.position + range.length - 1) + " have not come within " +
                     std::to_string(patience_.count()) + " s";
  if (now.last_error.front() != '\0') text.append(" (").append(now.last_error.data()).append(")");
  if (!is_being_fetched()) {
    return text + ": nobody fetches it; run pyram-image pull --lazy again, as its owner";
  }
  return text + "; check the network to where it comes from, and read again";
}

}  // namespace pyram
