// Lays out an ELF file's pages in the order in which they are used.
//
// A start uses a third of PyPy's library, in hundreds of places all over its 60 MB. An image is
// read in blocks, so most of what is read and decompressed for it would not be used.
// Nothing says that a file holds its segments in the order of their addresses: here each run of
// pages that are used alike becomes a segment (PT_LOAD) of its own, at its old address, and the
// file holds what a start uses first, what trained programs use next, and the rest last.
//
// What a program sees in memory is the same, byte for byte; section headers, which only debuggers
// read, cannot describe such a file and go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "image-builder/elf/file.h"

namespace pyram::builder {

struct FileRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

struct OrderedElf {
  std::vector<std::byte> bytes;
  // Where bytes of the old file are in the new one, in order of the old file. What is not named is
  // not in the new file.
  struct Move {
    std::uint64_t from = 0;
    std::uint64_t length = 0;
    std::uint64_t to = 0;
  };
  std::vector<Move> moves;

  // A range of the old file as ranges of the new one.
  [[nodiscard]] std::vector<FileRange> moved(const FileRange& range) const;
};

// Whether order_pages made this file: a segment goes on in memory where another ends, but not in
// the file. Such a file's tables may lie in several places of it, so that only the loader can read
// them.
[[nodiscard]] bool is_laid_out(const ElfView& elf);

// `uses` are the ranges of the file that are used, what is most wanted first. Nothing is returned
// for a file that is built in a way that this doesn't know; it is as good as before then.
// Throws Error: kBadSource for a broken file, kFailed when the result, checked page by page, would
// be another program.
[[nodiscard]] std::optional<OrderedElf> order_pages(std::span<const std::byte> bytes,
                                                    const std::vector<std::vector<FileRange>>& uses,
                                                    const std::string& name);

}  // namespace pyram::builder
