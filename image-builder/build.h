// Building an image, from its source to the finished file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "image-builder/output/squash.h"
#include "image-builder/tree/packages.h"

namespace pyram::builder {

struct BuildOptions {
  std::filesystem::path output;
  std::string from = "debian:trixie";
  std::string architecture;  // "arm64"; empty: this machine's own, or the source's.
  std::string mirror;
  PackageRequest packages;
  std::filesystem::path cache;     // Empty: packages are not kept.
  std::filesystem::path work_dir;  // Empty: $TMPDIR, or beside the output.
  std::vector<std::string> keep;   // Patterns, as in strip.rules.
  std::vector<std::string> strip;
  std::vector<std::filesystem::path> rules;
  SquashOptions squash;
  bool pack_elf = true;      // Improve the shared libraries, see improve_libraries().
  bool relocatable = false;  // None of them gets an address of its own.
  bool columns = false;      // Bytecode that knows columns, see compile_modules().
  bool train = true;
  std::vector<std::string> trainings;  // Scripts, beside the standard ones.
  std::filesystem::path key;           // To sign the image with; may be empty.
  bool quiet = false;
  bool is_layer =
      false;  // For an app to be appended to: see app/layer.h. Neither hashed nor signed.
};

// Returns the program's exit code; what went wrong has been said on stderr then. The output exists
// under its name only when it is whole. To be called from a single-threaded process.
[[nodiscard]] int build_image(const BuildOptions& options);

// The time in SOURCE_DATE_EPOCH, if that is set. Throws Error (kUsage) when it is no time.
[[nodiscard]] std::optional<std::int64_t> source_date_epoch();

// Where packages are kept by default: $XDG_CACHE_HOME/pyram or ~/.cache/pyram. Empty when
// there is no home.
[[nodiscard]] std::filesystem::path default_cache();

}  // namespace pyram::builder
