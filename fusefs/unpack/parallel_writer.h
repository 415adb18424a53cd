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

// Calls `work` with each number below `count`, once, from `threads` threads; `threads` times it is
// asked for, by the thread that then calls it. Returns when all is done. Throws again what was
// thrown first; the rest is then left out.
using Work = std::function<void(std::size_t)>;
void run_in_parallel(unsigned threads, std::size_t count, const std::function<Work()>& make_work);

// Writes new files of the plan. A large one is written by several threads. Throws Error: kBadImage,
// kVerification, kCannotWrite.
void write_files(const Image& image, const Plan& plan, unsigned threads,
                 std::span<const PlannedFile* const> files);

}  // namespace pyram
