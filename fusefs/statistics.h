// What the daemon counts. Adding is one relaxed atomic addition; reading gives a value of about
// now. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pyram {

class Counter {
 public:
  void add(std::uint64_t amount = 1) noexcept {
    value_.fetch_add(amount, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t value() const noexcept {
    return value_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

// Lies in memory that processes of different versions may share: new members come last.
struct Statistics {
  static constexpr std::size_t kOpcodes = 64;  // FUSE's highest is well below.

  [[nodiscard]] std::uint64_t all_requests() const noexcept {
    std::uint64_t sum = 0;
    for (const Counter& counter : requests) sum += counter.value();
    return sum;
  }

  std::array<Counter, kOpcodes> requests;  // By FUSE opcode, everything that the kernel sent.
  Counter errors;                          // Requests answered with an I/O error.
  Counter bytes_served;                    // Of file data, in answers to READ.
  Counter bytes_stored;                    // Of file data, put into the kernel's cache unasked.
  Counter blocks_decompressed;
  Counter bytes_read;                             // From the image.
  Counter bytes_decompressed;                     // What that became.
  Counter cache_hits;                             // Blocks that were there already.
  Counter cache_joins;                            // Blocks that another reader was decompressing.
  Counter worker_restarts;                        // Because one died.
  std::atomic<std::uint64_t> prefetch_total = 0;  // Bytes that are to be read ahead ...
  std::atomic<std::uint64_t> prefetch_done = 0;   // ... and those that were.
  std::atomic<std::uint64_t> cache_bytes = 0;     // What the block cache holds now.
  Counter worker_reloads;                         // Workers of a newer program.
  Counter verify_failures;                        // Requests for bytes that are not as packed.
};

}  // namespace pyram
