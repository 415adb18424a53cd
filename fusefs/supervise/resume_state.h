// What of a FUSE connection has to outlive the process that serves it, so that another process can
// go on: how the kernel and we agreed to talk, and which requests are not answered yet.
//
// Nothing else has to: a node's number is its place in the image, and no file is ever opened.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pyram {

// Lies in memory that processes share, and has no pointers. Thread-safe, but for what is said
// below.
class ResumeState {
 public:
  // Keeps the kernel's first request, INIT. Bytes that do not fit were not understood anyway.
  void save_init(std::span<const std::byte> request);
  // INIT was answered: from now on the connection can be taken over.
  void set_open() { open_.store(true, std::memory_order_release); }
  [[nodiscard]] bool is_open() const { return open_.load(std::memory_order_acquire); }
  // What save_init() was given. REQUIRES: is_open().
  [[nodiscard]] std::span<const std::byte> init() const;
  [[nodiscard]] std::uint64_t init_id() const;
  // Whether the kernel gives requests that were not answered again when it is asked to, as INIT
  // says. Where it does, what follows need not be used.
  [[nodiscard]] bool kernel_resends() const { return resends_.load(std::memory_order_relaxed); }

  // Where a thread has the kernel put the header of a request: a process that is killed while it
  // takes one never gets to begin(). Each thread has a number of its own; kThreads of them have
  // places of their own.
  static constexpr std::size_t kThreads = 64;
  static constexpr std::size_t kHeaderSize = 40;
  using Header = std::array<std::byte, kHeaderSize>;
  [[nodiscard]] Header& header_of(unsigned thread) { return headers_[thread % kThreads]; }

  // A request was taken from the kernel, and was answered. More than kMostInFlight at once are not
  // all remembered.
  void begin(std::uint64_t request);
  void end(std::uint64_t request);
  // The requests in between, which are forgotten by this; some may have been answered all the same.
  // REQUIRES: no worker serves.
  [[nodiscard]] std::vector<std::uint64_t> take_in_flight();

 private:
  static constexpr std::size_t kMostInFlight = 256;

  std::array<std::byte, 256> init_{};
  std::atomic<std::uint32_t> init_size_ = 0;
  std::atomic<bool> resends_ = false;
  std::atomic<bool> open_ = false;
  std::array<std::atomic<std::uint64_t>, kMostInFlight> in_flight_{};  // 0: free.
  std::array<Header, kThreads> headers_{};
};

}  // namespace pyram
