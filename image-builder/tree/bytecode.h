// Bytecode for every module of an image, and the index that they are found by.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "image-builder/tree/layout.h"

namespace pyram::builder {

struct BytecodeResult {
  std::size_t compiled = 0;
  std::vector<std::string> not_python;  // Files *.py that hold no valid source (templates).
};

// Compiles everything in the standard library and the package directories with `compiler`, an
// interpreter of the image's own version, on all cores. The bytecode is "unchecked-hash" (PEP 552):
// never stale, whatever the files' times are. With `columns` it says where in a line each
// instruction came from, which is a third of it and only draws carets in tracebacks. What -O and
// -OO change of it goes to layout::kBytecodeDeltas, whose directory is there. Throws Error
// (kBadSource) when the interpreter fails.
[[nodiscard]] BytecodeResult compile_modules(const ImageTree& image, const Starter& compiler,
                                             const std::filesystem::path& work, bool columns);

// The same for one directory in `tree` and what is below it, with columns: a project's own modules.
// Nothing is kept for -O and -OO.
[[nodiscard]] BytecodeResult compile_directory(const Starter& starter,
                                               const std::filesystem::path& tree,
                                               const std::filesystem::path& directory,
                                               const std::filesystem::path& work);

// Writes layout::kModuleIndex: what can be imported from each directory of the image, as the
// image's own interpreter reads it at every start (python/image_startup.py). `time` is the
// modification time that all directories of the image will have, in seconds since 1970: by it the
// interpreter knows that a directory is still as the index has it. Throws Error (kBadSource) when
// the interpreter fails.
void index_modules(const ImageTree& image, std::int64_t time, const std::filesystem::path& work);

}  // namespace pyram::builder
