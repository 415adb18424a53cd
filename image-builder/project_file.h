// pyram.toml, or [tool.pyram] of pyproject.toml: what a project takes where the command line says
// nothing.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace pyram::builder {

// What is not in the file is empty. Paths are relative to nothing: the file's directory is in them.
struct ProjectFile {
  std::filesystem::path file;
  std::filesystem::path output;                     // "image"
  std::string base;                                 // "base": as --from takes it.
  std::vector<std::string> packages;                // "packages": as --with.
  std::vector<std::filesystem::path> requirements;  // "requirements"
  std::vector<std::string> keep;                    // "keep"
  std::vector<std::string> strip;                   // "strip": of `build`.
  std::vector<std::filesystem::path> rules;         // "rules"
  std::vector<std::string> trainings;               // "train": scripts, of `build`.
  std::string application;                          // "app", and what follows: of `app`.
  std::string script;
  std::string settings;
  std::filesystem::path urls;
};

// That of a directory: pyram.toml, or pyproject.toml where that has a [tool.pyram]; nothing
// without. Throws Error (kUsage) where it is no TOML, has a key that is unknown, or a value of
// another type.
[[nodiscard]] std::optional<ProjectFile> read_project_file(const std::filesystem::path& directory);

}  // namespace pyram::builder
