// Takes the tables for unwinding the C stack out of a shared library.
//
// They are for C++ exceptions and for debuggers: nothing that a Python program sees depends on them
// (Python's tracebacks come from the interpreter's own frames), and in PyPy's library they are 2 MB
// that compress badly. A debugger that asks for a C stack gets one frame. The tables become zeros;
// nothing moves.
//
// Formats: LSB 5.0, "Exception Frames".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pyram::builder {

// Changes `bytes`, a 64-bit little-endian ELF file, unless exceptions may pass through it: unless
// it is the C or C++ library's own or uses C++'s. Returns how many bytes became zeros.
// Throws Error (kBadSource) for a broken file.
std::uint64_t drop_unwind_tables(std::vector<std::byte>& bytes, const std::string& name);

}  // namespace pyram::builder
