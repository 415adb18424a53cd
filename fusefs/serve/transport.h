// The device of a FUSE mount: everything that the kernel and the daemon say to each other.
//
// libfuse reads and writes through this (fuse_session_custom_io). It counts the requests, keeps in
// memory that outlives the process which of them are not answered, and writes the pages that go
// into the kernel's page cache.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "fusefs/statistics.h"
#include "fusefs/supervise/resume_state.h"
#include "support/unique_fd.h"

namespace pyram {

// Thread-safe, but for replay_init() and recover_requests().
class Transport {
 public:
  // `device` is an open /dev/fuse that belongs to a mount. `opened` is called once INIT is
  // answered. `can_resend`: false to do as on a kernel before Linux 6.9. The references have to
  // outlive the transport.
  Transport(UniqueFd device, ResumeState& resume, Statistics& statistics,
            std::function<void()> opened, bool can_resend);

  [[nodiscard]] int device() const { return device_.get(); }

  // For libfuse: as read(2) and writev(2) of the device. A reply is written once.
  [[nodiscard]] ssize_t receive(std::span<std::byte> buffer);
  [[nodiscard]] ssize_t send(std::span<const iovec> pieces);

  // Puts bytes of a node into the kernel's page cache (FUSE_NOTIFY_STORE). Returns whether the
  // kernel took them: it has to know the node. Waits for pages that are being read: so it is never
  // called by a thread that answers requests.
  [[nodiscard]] bool store(std::uint64_t node, std::uint64_t offset,
                           std::span<const std::byte> bytes) const;

  // Gives `process` the INIT request that was answered long ago. Replies are not sent meanwhile.
  // REQUIRES: the connection is open (ResumeState), and no thread serves.
  void replay_init(const std::function<void(std::span<std::byte>)>& process);
  // Has the kernel send again what another process took and did not answer. Where the kernel can't,
  // these requests fail with EIO. REQUIRES: as above.
  void recover_requests();

 private:
  // Takes a request by way of memory that outlives this process.
  [[nodiscard]] ssize_t receive_remembered(std::span<std::byte> buffer);
  // Whether unanswered requests have to be remembered: the kernel cannot send them again.
  [[nodiscard]] bool remembers() const { return !can_resend_ || !resume_.kernel_resends(); }

  const UniqueFd device_;
  ResumeState& resume_;
  Statistics& statistics_;
  const std::function<void()> opened_;
  const bool can_resend_;
  std::atomic<unsigned> threads_ = 0;  // How many have a number.
  bool replaying_ = false;
};

}  // namespace pyram
