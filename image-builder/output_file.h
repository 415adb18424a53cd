// The finished image's way to its place.
#pragma once

#include <filesystem>

namespace pyram::builder {

// Says now what would otherwise be found out after a minute's work. Throws Error (kCannotWrite).
void check_output(const std::filesystem::path& output);

// The directory for intermediate files: `wanted`, $TMPDIR, or the output's own.
[[nodiscard]] std::filesystem::path choose_work_dir(const std::filesystem::path& wanted,
                                                    const std::filesystem::path& output);

// A file on its way to another name: removed at the end, unless it was renamed, and before that
// what an earlier one left. Use one at a time for a path.
class UnfinishedFile {
 public:
  explicit UnfinishedFile(std::filesystem::path path);
  ~UnfinishedFile();
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Has the finished file on disk, then under its name. Throws Error (kCannotWrite).
void put_in_place(const std::filesystem::path& partial, const std::filesystem::path& output);

// Copies a regular file's content and mode; `to` must not exist. Throws Error (kCannotWrite where
// there is no room; the standard library's own function calls that an input/output error).
void copy_content(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace pyram::builder
