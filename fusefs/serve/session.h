// A FUSE connection and the threads that answer on it.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "fusefs/serve/file_system.h"
#include "support/unique_fd.h"

struct fuse_session;

namespace pyram {

class Session {
 public:
  // `device` is an open /dev/fuse that belongs to a mount. `file_system` has to outlive the
  // session. Throws Error (kNoFuse).
  Session(FileSystem& file_system, UniqueFd device, bool debug);
  // Waits for the threads to end.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Goes on where another process stopped: what it negotiated holds, and the requests that it took
  // and did not answer come again. A kernel before Linux 6.9 (or Transport::can_resend being false)
  // can't give them back: they fail with an I/O error. REQUIRES: the connection is open; before
  // start().
  void take_over();

  // Starts `threads` threads that answer until the file system is unmounted, or as many as can be
  // had; returns how many that are. Throws Error (kFailed) where there is none.
  unsigned start(unsigned threads);

  // Has the threads end once they answered what they have begun, and waits for that. The mount
  // stays; its requests wait for the next session.
  void drain();

  // Waits for the threads to end: no operation runs any more then.
  void join() { threads_.clear(); }

  // Puts bytes of a file into the kernel's page cache, which has to know the inode. Returns whether
  // it took them. Thread-safe, but never from a thread that answers requests: it waits for pages
  // that are being read.
  bool store(const Image& image, InodeRef file, std::uint64_t offset,
             std::span<const std::byte> bytes);

  // Readable (for poll) once a thread has ended, which is when the file system is not mounted any
  // more or the connection is broken.
  [[nodiscard]] int ended() const { return ended_.get(); }
  // Whether it was the end of the mount.
  [[nodiscard]] bool unmounted() const { return unmounted_; }

 private:
  struct Destroy {
    void operator()(fuse_session* session) const noexcept;
  };

  void serve();

  FileSystem& file_system_;
  UniqueFd ended_;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> unmounted_ = false;
  std::atomic<unsigned> running_ = 0;  // Threads that have not ended.
  std::unique_ptr<fuse_session, Destroy> session_;
  std::vector<std::jthread> threads_;
};

}  // namespace pyram
