// Writes many files by several threads.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "fusefs/unpack/file_writer.h"

namespace pyram {

// As many as the machine has processors, at most 8.
[[nodiscard]] unsigned threads_of_machine();

// Calls `work` with each number below `count`, once, from `threads` threads, each of which has a
// writer of its own. Returns when all is done. Throws again what `work` threw first; the rest is
// then left out.
void run_in_parallel(const Image& image, const Plan& plan, unsigned threads, std::size_t count,
                     const std::function<void(FileWriter&, std::size_t)>& work);

// Writes new files of the plan. A large one is written by several threads. Throws Error: kBadImage,
// kVerification, kCannotWrite.
void write_files(const Image& image, const Plan& plan, unsigned threads,
                 std::span<const PlannedFile* const> files);

}  // namespace pyram
