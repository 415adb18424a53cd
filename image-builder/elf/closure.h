// The shared libraries that an image's ELF files need, found from the files themselves.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace pyram::builder {

struct ClosureRequest {
  std::filesystem::path tree;  // The image's files; its ELF files are the start.
  std::vector<std::filesystem::path> directories;  // Where libraries are looked for, in order.
  std::string loader_name;                         // The loader's soname; the image has it anyway.
  std::vector<std::string> optional{};  // Libraries to add where they are found, needed or not.
};

struct FoundLibrary {
  std::filesystem::path file;  // The real file, links resolved.
  std::string needed_by;       // Relative to the tree, or the soname of a library.
};

// The libraries to add to the image, by the name that they are needed by. What an ELF file finds
// inside the tree by its own RUNPATH ($ORIGIN) is in place already and not listed.
// Throws Error (kBadSource) when one is nowhere, with the name of the file that needs it, and for
// broken ELF files.
[[nodiscard]] std::map<std::string, FoundLibrary> library_closure(const ClosureRequest& request);

// Every regular ELF file below `tree`, sorted.
[[nodiscard]] std::vector<std::filesystem::path> elf_files(const std::filesystem::path& tree);

// The directories in which this machine's own loader looks, as ld.so.conf names them.
[[nodiscard]] std::vector<std::filesystem::path> system_library_directories();

}  // namespace pyram::builder
