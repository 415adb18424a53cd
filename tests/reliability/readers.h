// Readers that compare what a mount gives with what was packed, for as long as an object lives.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace pyram::test {

// `count` files of `size` bytes below `directory` (made), some of which compress well and some
// don't: the same at every call.
void make_files(const std::filesystem::path& directory, int count, std::size_t size);

// 0, or the errno of reading the whole file.
[[nodiscard]] int error_of_reading(const std::filesystem::path& file);

class Readers {
 public:
  // `count` threads read random ranges of the files of `expected` from `found` as well, past the
  // kernel's cache.
  Readers(const std::filesystem::path& expected, const std::filesystem::path& found, int count);
  // Ends the threads.
  ~Readers();
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  // Waits until that many more ranges were compared.
  void wait_for_reads(std::uint64_t more) const;
  void stop();

  [[nodiscard]] std::uint64_t reads() const { return reads_; }
  [[nodiscard]] std::uint64_t differences() const { return differences_; }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }        // EIO.
  [[nodiscard]] std::uint64_t other_errors() const { return others_; }  // Any other.

 private:
  void read(unsigned seed);

  struct File {
    std::filesystem::path found;
    std::string content;
  };
  std::vector<File> files_;
  std::atomic<bool> stopping_ = false;
  std::atomic<std::uint64_t> reads_ = 0;
  std::atomic<std::uint64_t> differences_ = 0;
  std::atomic<std::uint64_t> errors_ = 0;
  std::atomic<std::uint64_t> others_ = 0;
  std::vector<std::thread> threads_;
};

// How many times longer than usual the tests of this directory are to be: $PYRAM_TEST_LONG, or 1.
[[nodiscard]] int length_factor();

}  // namespace pyram::test
