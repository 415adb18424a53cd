// Unpacking a whole image into a directory: for machines on which nothing can be mounted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "fusefs/image/image.h"

namespace pyram {

// What is to be unpacked, and how.
struct Extraction {
  std::filesystem::path image;
  std::uint64_t offset = 0;  // Where the image begins in its file.
  Image::Verify verify = Image::Verify::kNo;
  std::filesystem::path directory;  // To be made.
  unsigned threads = 0;             // 0: as many as the machine has processors, at most 8.
  // A directory that lies in RAM (tmpfs) is filled only if that leaves so many bytes to whatever
  // runs afterwards, as far as the machine and the memory limits of our control groups tell.
  std::uint64_t reserve = std::uint64_t{64} << 20;
};

// Unpacks an image: files, directories, links and hard links, with permissions (set-uid and set-gid
// excepted) and times; everything belongs to the caller; devices, pipes and sockets are left out.
// The directory appears only when it is whole: until then the content is in DIRECTORY.partial,
// which is removed first if it is there. One with Pyram's module index gets layout::kUnpacked.
//
// Throws Error: kBadImage, kVerification, or kCannotWrite (ENOSPC where it doesn't fit).
void extract_image(const Extraction& extraction);

// The same, but what a start reads (the files of the hot list) comes first: then the directory
// appears, with all names, sizes and times, and `usable` is called. The other files get their
// content behind that: who opens one waits for it (lazy_files.h says how). Until all is done the
// directory has a file layout::kUnfinished in it, which is locked (flock) for as long as somebody
// works on it.
//
// Where files cannot be written so, all of them are written before `usable` is called.
//
// REQUIRES: a process of its own, which has only this thread; it blocks a signal, and starts
// another process that goes on if this one is killed. Throws as extract_image() does; what fails
// after `usable` leaves the directory unfinished.
void extract_hot_first(const Extraction& extraction, const std::function<void()>& usable);

}  // namespace pyram
