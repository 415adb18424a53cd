#include "fusefs/serve/transport.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

namespace pyram {
namespace {

// Linux 6.9: the kernel puts the requests that were taken and not answered before the others again.
// Debian 12's headers are older.
constexpr std::int32_t kNotifyResend = 7;

// FORGET and INTERRUPT have no reply.
bool wants_reply(std::uint32_t opcode) {
  return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
}

}  // namespace

Transport::Transport(UniqueFd device, ResumeState& resume, Statistics& statistics,
                     std::function<void()> opened, bool can_resend)
    : device_(std::move(device)),
      resume_(resume),
      statistics_(statistics),
      opened_(std::move(opened)),
      can_resend_(can_resend) {}

ssize_t Transport::receive_remembered(std::span<std::byte> buffer) {
  thread_local const unsigned thread = threads_++;
  ResumeState::Header& header = resume_.header_of(thread);
  header.fill({});
  const std::span<std::byte> rest = buffer.subspan(header.size());
  const std::array<iovec, 2> pieces = {
      {{header.data(), header.size()}, {rest.data(), rest.size()}}};
  const ssize_t got = ::readv(device_.get(), pieces.data(), pieces.size());
  if (got > 0) std::ranges::copy(header, buffer.begin());
  return got;
}

ssize_t Transport::receive(std::span<std::byte> buffer) {
  const bool remember = remembers();
  const ssize_t got =
      remember ? receive_remembered(buffer) : ::read(device_.get(), buffer.data(), buffer.size());
  if (got < static_cast<ssize_t>(sizeof(fuse_in_header))) return got;
  const auto& header = *reinterpret_cast<const fuse_in_header*>(buffer.data());
  statistics_.requests[header.opcode < Statistics::kOpcodes ? header.opcode : 0].add();
  if (header.opcode == FUSE_INIT) {
    resume_.save_init(buffer.first(static_cast<std::size_t>(got)));
  } else if (remember && wants_reply(header.opcode)) {
    resume_.begin(header.unique);
  }
  return got;
}

ssize_t Transport::send(std::span<const iovec> pieces) {
  const fuse_out_header header = *static_cast<const fuse_out_header*>(pieces[0].iov_base);
  if (replaying_) return header.len;
  const ssize_t sent = ::writev(device_.get(), pieces.data(), static_cast<int>(pieces.size()));
  if (header.unique == 0) return sent;  // A notification, and no reply.
  const int error = errno;
  if (remembers()) resume_.end(header.unique);
  if (sent >= 0 && header.error == 0 && !resume_.is_open() && header.unique == resume_.init_id()) {
    resume_.set_open();
    if (opened_) opened_();
  }
  errno = error;
  return sent;
}

bool Transport::store(std::uint64_t node, std::uint64_t offset,
                      std::span<const std::byte> bytes) const {
  fuse_notify_store_out place{};
  place.nodeid = node;
  place.offset = offset;
  place.size = static_cast<std::uint32_t>(bytes.size());
  fuse_out_header header{};
  header.len = static_cast<std::uint32_t>(sizeof header + sizeof place + bytes.size());
  header.error = FUSE_NOTIFY_STORE;
  // The type is made for reading as well; this writes.
  auto* const data = const_cast<std::byte*>(bytes.data());  // NOLINT
  const std::array<iovec, 3> pieces = {
      {{&header, sizeof header}, {&place, sizeof place}, {data, bytes.size()}}};
  return ::writev(device_.get(), pieces.data(), pieces.size()) >= 0;
}

void Transport::replay_init(const std::function<void(std::span<std::byte>)>& process) {
  std::vector<std::byte> init(resume_.init().begin(), resume_.init().end());
  replaying_ = true;
  process(init);
  replaying_ = false;
}

void Transport::recover_requests() {
  const std::vector<std::uint64_t> unanswered = resume_.take_in_flight();
  fuse_out_header header{};
  header.len = sizeof header;
  header.error = kNotifyResend;
  if (can_resend_ && ::write(device_.get(), &header, sizeof header) == sizeof header) return;
  header.error = -EIO;
  for (const std::uint64_t request : unanswered) {
    header.unique = request;
    // The kernel does not know a request that was answered after all.
    [[maybe_unused]] const ssize_t ignored = ::write(device_.get(), &header, sizeof header);
  }
}

}  // namespace pyram
