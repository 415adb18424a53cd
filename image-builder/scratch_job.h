// Runs a piece of work so that whatever ends it leaves nothing behind.
#pragma once

#include <filesystem>
#include <functional>

namespace pyram::builder {

// A directory for the work's intermediate files and whatever else goes with it.
struct Scratch {
  std::filesystem::path directory;  // New, empty, mode 0700.
  std::filesystem::path partial;    // A name for the unfinished output, beside the output itself.
};

// Makes a Scratch in `parent`, with an unfinished output beside `output`, and calls `work` in a
// child process that leads a process group of its own. When `work` has returned, has thrown or was
// killed, or when SIGINT, SIGTERM or SIGHUP came, every process that it started has ended and the
// scratch is removed: all but the file that `work` renamed away. A second process is needed for
// this because the programs that the work runs (apt-get, mksquashfs, the interpreter) have to end
// first, whatever they are doing.
//
// Returns the program's exit code: what `work` returned, that of the Error that it threw (printed
// as one line on stderr), or 128 + N after signal N. Throws Error (kCannotWrite) when the scratch
// cannot be made. To be called from a single-threaded process.
[[nodiscard]] int run_scratch_job(const std::filesystem::path& parent,
                                  const std::filesystem::path& output,
                                  const std::function<int(const Scratch&)>& work);

// Removes a directory with all that is in it, also directories that we may not write into.
void remove_tree(const std::filesystem::path& directory) noexcept;

}  // namespace pyram::builder
