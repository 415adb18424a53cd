// Requests for bytes that are not here yet, of an image that is being fetched.
//
// The few threads that answer requests never wait for the network: a request that would is put
// aside here, as it came, and processed again by a thread of this once the bytes are here, or to be
// answered with an error once the time has run out. So whatever is here is answered at once,
// however many programs wait for something else.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>
#include <vector>

#include "fusefs/image/partial_image.h"
#include "support/locks.h"

namespace pyram {

// Thread-safe, but for start() and stop().
class WaitingRoom {
 public:
  // Answers a request, or notes what it lacks by set_missing() (FileSystem does).
  using Process = std::function<void(std::span<std::byte> request)>;

  // `partial` has to outlive it. `asked_in_vain` is called each second in which something is
  // missing.
  WaitingRoom(const PartialImage& partial, Process process, std::function<void()> asked_in_vain);

  // Starts its thread. Throws std::exception where there is none to be had.
  void start();
  // Waits for its thread. Requests that are here stay unanswered: the kernel knows them.
  void stop();

  // Processes a request in a thread that must not wait, and keeps it where bytes are missing.
  void process_or_keep(std::span<std::byte> request);

  // This thread's request could not be answered without these bytes.
  static void set_missing(ByteRange range);

 private:
  using Clock = std::chrono::steady_clock;
  struct Kept {
    std::vector<std::byte> request;
    ByteRange missing;
    Clock::time_point came;
    Clock::time_point asked;
  };

  [[nodiscard]] std::optional<ByteRange> try_to_process(std::span<std::byte> request,
                                                        Absent when_absent) const;
  void keep(Kept kept);
  void work(const std::stop_token& stop);
  // Takes those out that can be processed now.
  [[nodiscard]] std::list<Kept> take_ready();
  [[nodiscard]] bool is_late(const Kept& kept, Clock::time_point now) const;

  const PartialImage& partial_;
  const Process process_;
  const std::function<void()> asked_in_vain_;
  Mutex mutex_;
  std::condition_variable_any came_;
  std::list<Kept> kept_ PYRAM_GUARDED_BY(mutex_);
  std::jthread thread_;  // Last: it ends before what it uses.
};

}  // namespace pyram
