#include "image-builder/output/squashfs_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <span>

#include "support/error.h"
#include "support/io.h"
#include "support/process.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kSuperblockSize = 96;

Error no_image(const fs::path& image, std::string_view why) {
  return {ExitCode::kBadImage, "cannot use the image " + quote(image.native()) + ": " +
                                   std::string(why) + "; name an image that pyram-image made"};
}

// Fields are little-endian in the file, whatever the machine.
std::uint64_t little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  }
  return value;
}

std::string compressor_name(std::uint64_t id) {
  constexpr std::array<const char*, 7> kNames = {"?", "gzip", "lzma", "lzo", "xz", "lz4", "zstd"};
  return id < kNames.size() ? kNames[id] : "?";
}

}  // namespace

Superblock read_superblock(const fs::path& image) {
  const UniqueFd fd(::open(image.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw no_image(image, describe_errno(errno));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    throw no_image(image, "it is no regular file");
  }
  std::array<std::byte, kSuperblockSize> bytes{};
  const std::span<const std::byte> all(bytes);
  if (pread_full(fd.get(), bytes, 0) < bytes.size() ||
      little_endian(all.subspan(0, 4)) != 0x73717368) {
    throw no_image(image, "it is no SquashFS");
  }
  if (little_endian(all.subspan(28, 2)) != 4) throw no_image(image, "it is no SquashFS 4.0");
  Superblock result;
  result.inodes = static_cast<std::uint32_t>(little_endian(all.subspan(4, 4)));
  result.time = static_cast<std::int64_t>(little_endian(all.subspan(8, 4)));
  result.block_size = static_cast<std::uint32_t>(little_endian(all.subspan(12, 4)));
  result.compressor = compressor_name(little_endian(all.subspan(20, 2)));
  result.bytes_used = little_endian(all.subspan(40, 8));
  if (result.bytes_used > static_cast<std::uint64_t>(status.st_size)) {
    throw no_image(image, "it is truncated");
  }
  return result;
}

std::string read_from_image(const fs::path& image, const std::string& path) {
  const Outcome outcome = run({{"unsquashfs", "-cat", image.native(), path}, {}, {}});
  if (!outcome.ok()) {
    throw no_image(image, "cannot read " + quote(path) + " in it: " + outcome.last_line());
  }
  return outcome.output;
}

void unpack_image(const fs::path& image, const fs::path& directory) {
  const Outcome outcome =
      run({{"unsquashfs", "-quiet", "-no-progress", "-dest", directory.native(), image.native()},
           {},
           {}});
  if (!outcome.ok()) throw no_image(image, "cannot unpack it: " + outcome.last_line());
}

}  // namespace pyram::builder
