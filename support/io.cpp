#include "support/io.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "support/error.h"

namespace pyram {

std::size_t pread_full(int fd, std::span<std::byte> buffer, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t n =
        ::pread(fd, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done));
    if (n == 0) break;
    if (n < 0) {
      if (errno == EINTR) continue;
      throw system_error(ExitCode::kFailed, errno, "read at byte " + std::to_string(offset + done));
    }
    done += static_cast<std::size_t>(n);
  }
  return done;
}

void write_full(int fd, std::span<const std::byte> bytes, std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      throw system_error(ExitCode::kCannotWrite, errno, "write " + std::string(what));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void write_full(int fd, std::string_view text, std::string_view what) {
  write_full(fd, std::as_bytes(std::span(text)), what);
}

bool pwrite_full(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return true;
}

std::string read_to_end(int fd, std::string_view what) {
  std::string text;
  std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n == 0) return text;
    if (n < 0) {
      if (errno == EINTR) continue;
      throw system_error(ExitCode::kFailed, errno, "read " + std::string(what));
    }
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

std::string read_file(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw system_error(ExitCode::kFailed, errno, "open " + quote(path.native()));
  return read_to_end(fd.get(), quote(path.native()));
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  std::string temporary = path.native() + ".XXXXXX";
  const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) throw system_error(ExitCode::kCannotWrite, errno, "create " + quote(path.native()));
  try {
    write_full(fd.get(), text, quote(path.native()));
    // mkostemp made it private; a file that we write for others has the usual mode.
    if (::fchmod(fd.get(), 0644) != 0 || ::fsync(fd.get()) != 0 ||
        ::rename(temporary.c_str(), path.c_str()) != 0) {
      throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(path.native()));
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void ensure_standard_descriptors() {
  for (;;) {
    const int fd = ::open("/dev/null", O_RDWR);
    if (fd < 0) return;
    if (fd > STDERR_FILENO) {
      ::close(fd);
      return;
    }
  }
}

}  // namespace pyram
