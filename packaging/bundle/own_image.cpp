#include "packaging/bundle/own_image.h"

#include <elf.h>
#include <fcntl.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "support/bundle_layout.h"
#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::bundle {

std::uint64_t image_offset(const std::string& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw system_error(ExitCode::kBadImage, errno, "read " + quote(file));
  Elf64_Ehdr header{};
  const auto bytes = std::as_writable_bytes(std::span(&header, 1));
  if (pread_full(fd.get(), bytes, 0) != bytes.size() ||
      std::memcmp(&header.e_ident, ELFMAG, SELFMAG) != 0) {
    throw Error(ExitCode::kBadImage,
                "cannot find the image in " + quote(file) + ": it is no ELF file");
  }
  const std::uint64_t end =
      header.e_shoff + std::uint64_t{header.e_shentsize} * std::uint64_t{header.e_shnum};
  const std::uint64_t offset = (end + kBundleAlignment - 1) / kBundleAlignment * kBundleAlignment;
  std::array<char, 4> magic{};
  if (pread_full(fd.get(), std::as_writable_bytes(std::span(magic)), offset) != magic.size() ||
      std::memcmp(magic.data(), "hsqs", magic.size()) != 0) {
    throw Error(ExitCode::kBadImage, "there is no image in " + quote(file) +
                                         "; make an executable with pyram-image bundle");
  }
  return offset;
}

}  // namespace pyram::bundle
