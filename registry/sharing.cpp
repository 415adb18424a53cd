#include "registry/sharing.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <new>

#include "support/unique_fd.h"

namespace pyram::registry {
namespace {

// What is compared at once: a difference costs the sharing of so much.
constexpr std::uint64_t kPiece = std::uint64_t{64} << 10;

std::uint64_t size_of(const UniqueFd& file) {
  struct stat status {};
  return ::fstat(file.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

// Whether the file system can share at all; `shared` is 0 where the bytes differ.
bool share_piece(int from, int to, std::uint64_t position, std::uint64_t length,
                 std::uint64_t& shared) {
  alignas(file_dedupe_range)
      std::array<std::byte, sizeof(file_dedupe_range) + sizeof(file_dedupe_range_info)>
          memory{};
  auto* request = new (memory.data()) file_dedupe_range{};
  request->src_offset = position;
  request->src_length = length;
  request->dest_count = 1;
  request->info[0].dest_fd = to;
  request->info[0].dest_offset = position;
  if (::ioctl(from, FIDEDUPERANGE, request) != 0 || request->info[0].status < 0) return false;
  shared = request->info[0].status == FILE_DEDUPE_RANGE_SAME ? request->info[0].bytes_deduped : 0;
  return true;
}

}  // namespace

std::uint64_t share_with(const std::filesystem::path& old,
                         const std::filesystem::path& image) noexcept {
  const UniqueFd from(::open(old.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd to(::open(image.c_str(), O_RDWR | O_CLOEXEC));
  if (!from || !to) return 0;
  const std::uint64_t end = std::min(size_of(from), size_of(to));
  std::uint64_t sum = 0;
  // The last piece is a whole one: file systems share whole blocks, and what is left is little.
  for (std::uint64_t position = 0; position + kPiece <= end; position += kPiece) {
    std::uint64_t shared = 0;
    if (!share_piece(from.get(), to.get(), position, kPiece, shared)) break;
    sum += shared;
  }
  return sum;
}

}  // namespace pyram::registry
