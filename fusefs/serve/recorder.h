// Writes down what is read, for the hot list of an image: `--record FILE`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "fusefs/image/hot_list.h"
#include "fusefs/image/types.h"
#include "support/locks.h"

namespace pyram {

// Thread-safe.
class Recorder {
 public:
  // `block_size` is the image's: a hot list goes block by block.
  Recorder(std::filesystem::path file, std::uint64_t block_size)
      : file_(std::move(file)), block_size_(block_size) {}

  // `inode` is called `name` in `directory`.
  void note_name(InodeRef directory, const std::string& name, InodeRef inode);
  // Bytes that the kernel asked for.
  void note_read(InodeRef file, std::uint64_t offset, std::uint64_t length);

  // Throws Error (kCannotWrite).
  void write() const;

 private:
  struct Name {
    InodeRef directory;
    std::string name;
  };
  // What was read of one block, by offset in the file. Ranges neither touch nor overlap.
  struct Part {
    InodeRef file;
    std::map<std::uint64_t, std::uint64_t> ranges;  // From, to.
  };

  [[nodiscard]] std::string path_of(InodeRef inode) const PYRAM_REQUIRES(mutex_);

  void add(Part& part, std::uint64_t from, std::uint64_t to);

  const std::filesystem::path file_;
  const std::uint64_t block_size_;
  mutable Mutex mutex_;
  std::map<InodeRef, Name> names_ PYRAM_GUARDED_BY(mutex_);
  // In the order in which blocks were first needed.
  std::vector<Part> parts_ PYRAM_GUARDED_BY(mutex_);
  std::map<std::pair<InodeRef, std::uint64_t>, std::size_t> part_of_block_ PYRAM_GUARDED_BY(mutex_);
};

}  // namespace pyram
