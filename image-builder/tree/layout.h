// Makes an image's tree out of a source: support/image_layout.h says where things lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "image-builder/elf/architecture.h"
#include "image-builder/sources/source.h"
#include "image-builder/tree/interpreter.h"
#include "image-builder/tree/strip_rules.h"

namespace pyram::builder {

// The loader's real file, and the directories where libraries are looked for.
struct Runtime {
  std::filesystem::path loader;
  std::vector<std::filesystem::path> library_directories;
};

struct ImageTree {
  std::filesystem::path tree;                              // The image's root.
  const Architecture* architecture = &own_architecture();  // That its programs are for.
  Runtime runtime;              // Where what is still missing comes from.
  RuleDirectories directories;  // The standard library and the packages, in the image.
  std::map<std::string, std::string> owners;  // Path in the image -> package name.
  std::vector<std::string> notes;             // What a person should know of.
  // Path in the image -> the file of this machine that it is a copy of.
  std::map<std::string, std::filesystem::path> machine_files;
  std::int64_t newest = 0;  // When the newest of the source's files was made, since 1970.
  // Set by complete():
  // The image's own interpreter, by its own bin/pypy3; by its loader where that needs an emulator.
  Starter starter;
  InterpreterFacts facts;              // What it says of itself in its new place.
  std::vector<std::string> libraries;  // Names of the libraries in libexec/pyram.
};

// The source's interpreter, started where it lies. Throws Error (kBadSource) when there is none.
[[nodiscard]] Starter start_in_place(const SourceTree& source);

// Moves (or copies, where the source isn't ours) what an image holds into `tree`, which must not
// exist. Throws Error (kBadSource) when the source has no PyPy, or one that does not start.
[[nodiscard]] ImageTree lay_out(const SourceTree& source, const std::filesystem::path& tree,
                                const std::filesystem::path& work);

// Makes a stripped tree into one that runs: the loader, every library that its ELF files need,
// bin/pypy3, and what the standard library has to know about living in an image.
// Throws Error (kBadSource) for a library that is nowhere and when the result does not start.
void complete(const SourceTree& source, ImageTree& image, const std::filesystem::path& work);

// Adds the libraries that the tree's ELF files need and that are not in it yet. Throws Error
// (kBadSource) for one that is nowhere.
void add_libraries(const SourceTree& source, ImageTree& image);

// Gives every file and directory the usual mode: 0755 or 0644, whatever the umask was.
void normalise_modes(const std::filesystem::path& tree);

}  // namespace pyram::builder
