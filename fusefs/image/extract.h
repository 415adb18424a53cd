// Unpacking a whole image into a directory: for machines on which nothing can be mounted.
#pragma once

#include <cstdint>
#include <filesystem>

#include "fusefs/image/image.h"

namespace pyram {

// Unpacks the image that begins at `offset` of the file `image` as the new directory `directory`,
// `threads` files at a time (0: as many as the machine has processors, at most 8). Files,
// directories, links and hard links, with permissions (set-uid and set-gid excepted) and times;
// everything belongs to the caller; devices, pipes and sockets are left out. `directory` appears
// only when it is whole: until then the content is in DIRECTORY.partial, which is removed first if
// it is there.
//
// A directory that lies in RAM (tmpfs) is filled only if that leaves `reserve` bytes to whatever
// runs afterwards, as far as the machine and the memory limits of our control groups tell.
//
// Throws Error: kBadImage, kVerification, or kCannotWrite (ENOSPC where it doesn't fit).
void extract_image(const std::filesystem::path& image, std::uint64_t offset, Image::Verify verify,
                   const std::filesystem::path& directory, unsigned threads,
                   std::uint64_t reserve = std::uint64_t{64} << 20);

}  // namespace pyram
