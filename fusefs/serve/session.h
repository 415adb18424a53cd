// A FUSE connection and the threads that answer on it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "fusefs/serve/waiting_room.h"
#include "support/unique_fd.h"

struct fuse_session;

namespace pyram {

class FileSystem;
class Transport;
struct FuseUser;

class Session {
 public:
  // Answers what comes through `transport` by the operations of `file_system`. Both have to outlive
  // the session. Throws Error (kNoFuse).
  Session(FileSystem& file_system, Transport& transport, bool debug);
  // Waits for the threads to end.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Has requests wait elsewhere for bytes of an image that is being fetched. `asked_in_vain`: as
  // WaitingRoom has it. `partial` has to outlive the session. REQUIRES: before start().
  [[gnu::cold]] void keep_waiting(const PartialImage& partial, std::function<void()> asked_in_vain);

  // Goes on where another process stopped: what it negotiated holds, and the requests that it took
  // and did not answer come again, or fail (Transport::recover_requests). REQUIRES: the connection
  // is open; before start().
  void take_over();

  // Starts `threads` threads that answer until the file system is unmounted, or as many as can be
  // had; returns how many that are. Throws Error (kFailed) where there is none.
  unsigned start(unsigned threads);

  // Has the threads end once they answered what they have begun, and waits for that. The mount
  // stays; its requests wait for the next session.
  void drain();

  // Waits for the threads to end: no operation runs any more then.
  void join();

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
  void process(std::span<std::byte> request);

  const std::unique_ptr<FuseUser> user_;  // libfuse has a pointer to it.
  UniqueFd ended_;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> unmounted_ = false;
  std::atomic<unsigned> running_ = 0;  // Threads that have not ended.
  std::unique_ptr<fuse_session, Destroy> session_;
  std::optional<WaitingRoom> waiting_;  // Of an image that is being fetched.
  std::vector<std::jthread> threads_;
};

}  // namespace pyram
