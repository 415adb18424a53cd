// Where things lie inside a Pyram image. Paths are relative to the image's root.
//
// Shared by the builder (which puts them there), the trampoline and the launcher (which start the
// interpreter) and the daemon (the hot list). Plain character arrays and nothing else: the
// trampoline is built without the C and C++ libraries. The format is described in
// docs/image-format.md.
#pragma once

namespace pyram::layout {

// The interpreter as scripts see it (sys.executable): a static program that runs kLoader on
// kProgram.
inline constexpr char kInterpreter[] = "bin/pypy3";

// glibc's dynamic loader. Its file name is what `ps` and `top` show, hence not ld-linux's own.
inline constexpr char kLoader[] = "libexec/pyram/loader/pypy3";

// The interpreter's real program file, and the directory of every shared library that is not an
// extension module; started as
//   kLoader --argv0 ROOT/kInterpreter --library-path kLibraryPath ROOT/kProgram ARG...
inline constexpr char kProgram[] = "libexec/pyram/pypy3";
inline constexpr char kLibraries[] = "libexec/pyram";

// kLibraries to the loader: where the program lies. ROOT itself would be taken apart at each ':'
// and ';' in it. What LD_LIBRARY_PATH has comes behind it, as the option takes the variable's
// place.
inline constexpr char kLibraryPath[] = "$ORIGIN";

// Pyram's own metadata.
inline constexpr char kMetadata[] = ".pyram";
inline constexpr char kManifest[] = ".pyram/manifest.json";
inline constexpr char kSbom[] = ".pyram/sbom.spdx.json";
inline constexpr char kHotList[] = ".pyram/hot";

// Of an unpacked image only: files are still without their content. Locked (flock) for as long as a
// process writes them; nobody does when it is not.
inline constexpr char kUnfinished[] = ".pyram/unfinished";

// Of an unpacked image only: sources may have been edited since, and have to be looked at before
// their bytecode is taken.
inline constexpr char kUnpacked[] = ".pyram/unpacked";

// Names the variables (with commas between) that the launcher added to the environment for PyPy's
// own use; the image's start-up code takes them and this one away.
inline constexpr char kAddedVariables[] = "PYRAM_ADDED_VARIABLES";

// Which modules the image has, for its own import system.
inline constexpr char kModuleIndex[] = ".pyram/modules";

// What -O and -OO change of the modules' bytecode: the files kBytecodeDeltas-1 and -2.
inline constexpr char kBytecodeDeltas[] = ".pyram/optimised";

}  // namespace pyram::layout
