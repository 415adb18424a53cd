#include "tests/reliability/readers.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <random>

#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::test {

namespace fs = std::filesystem;

void make_files(const fs::path& directory, int count, std::size_t size) {
  fs::create_directories(directory);
  std::mt19937 chance(1);
  for (int i = 0; i < count; ++i) {
    std::string content(size, '\0');
    for (std::size_t at = 0; at < size; ++at) {
      // Runs of text in every second file, so that blocks differ in how they compress.
      const bool repeat = i % 2 == 0 && at % 4096 > 256;
      content[at] = repeat ? content[at - 256] : static_cast<char>(chance());
    }
    write_file(directory / ("file-" + std::to_string(i)), content);
  }
}

int error_of_reading(const fs::path& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got <= 0) return got == 0 ? 0 : errno;
  }
}

Readers::Readers(const fs::path& expected, const fs::path& found, int count) {
  for (const auto& entry : fs::directory_iterator(expected)) {
    files_.push_back({found / entry.path().filename(), read_file(entry.path())});
  }
  for (int i = 0; i < count; ++i) {
    threads_.emplace_back([this, i] { read(static_cast<unsigned>(i)); });
  }
}

Readers::~Readers() { stop(); }

void Readers::stop() {
  stopping_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Readers::wait_for_reads(std::uint64_t more) const {
  const std::uint64_t wanted = reads_ + more;
  for (std::uint64_t now = reads_; now < wanted; now = reads_) reads_.wait(now);
}

void Readers::read(unsigned seed) {
  std::mt19937_64 chance(seed);
  std::vector<char> bytes;
  while (!stopping_) {
    const File& file = files_[chance() % files_.size()];
    const UniqueFd fd(::open(file.found.c_str(), O_RDONLY | O_CLOEXEC));
    const std::size_t from = chance() % file.content.size();
    const std::size_t size =
        std::min<std::size_t>(1 + chance() % 400'000, file.content.size() - from);
    bytes.resize(size);
    // What the kernel has would come from there, and ask nobody.
    if (fd) ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    std::size_t done = 0;
    ssize_t got = fd ? 1 : -1;
    while (got > 0 && done < size) {
      got = ::pread(fd.get(), &bytes[done], size - done, static_cast<off_t>(from + done));
      if (got > 0) done += static_cast<std::size_t>(got);
    }
    if (got < 0) {
      ++(errno == EIO ? errors_ : others_);
    } else if (done < size || std::memcmp(bytes.data(), &file.content[from], size) != 0) {
      ++differences_;
    }
    ++reads_;
    reads_.notify_all();
  }
}

int length_factor() {
  const char* const text = std::getenv("PYRAM_TEST_LONG");
  int factor = 1;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), factor);
  return std::max(factor, 1);
}

}  // namespace pyram::test
