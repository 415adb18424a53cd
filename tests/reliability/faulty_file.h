// A file on a disk that fails when it is told to: served by a FUSE file system of the test's own,
// past the kernel's cache, so that every read(2) of it is one that can fail.
#pragma once

#include <filesystem>
#include <memory>

namespace pyram::test {

// Thread-safe.
class FaultyFile {
 public:
  // In place of an errno value: half of what was asked for is given.
  static constexpr int kShortRead = 0;

  // The bytes are those of `content`; `directory` is made and mounted on. Fails the test case where
  // that fails.
  FaultyFile(const std::filesystem::path& content, const std::filesystem::path& directory);
  // Unmounts, by force.
  ~FaultyFile();
  FaultyFile(const FaultyFile&) = delete;
  FaultyFile& operator=(const FaultyFile&) = delete;

  [[nodiscard]] std::filesystem::path path() const;

  // `count` reads fail with `fault`, from the one that `skipped` others come before.
  void fail(int fault, int skipped, int count = 1);
  // No more faults. Returns how many there were since fail().
  int heal();
  // Reads so far.
  [[nodiscard]] int reads() const;

 private:
  struct Server;
  std::unique_ptr<Server> server_;
};

}  // namespace pyram::test
