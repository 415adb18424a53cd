#include "tests/support/tree.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>

#include "support/io.h"

namespace pyram::test {
namespace {

namespace fs = std::filesystem;

struct Walk {
  fs::path expected;
  fs::path found;
  Comparison result;
  std::map<ino_t, ino_t> files;  // Inode numbers of the one tree and of the other.

  void differ(const std::string& name, const std::string& what) {
    result.differences.push_back(name + ": " + what);
  }

  template <typename Value>
  void check(const std::string& name, const std::string& what, Value left, Value right) {
    if (left != right) {
      differ(name, what + " " + std::to_string(left) + " and " + std::to_string(right));
    }
  }

  static std::set<std::string> names(const fs::path& directory) {
    std::set<std::string> result;
    for (const auto& entry : fs::directory_iterator(directory))
      result.insert(entry.path().filename());
    return result;
  }

  void directory(const std::string& name) {
    const std::set<std::string> left = names(expected / name);
    const std::set<std::string> right = names(found / name);
    if (left != right) differ(name, "lists other names");
    for (const std::string& child : left) {
      if (right.contains(child)) entry(name.empty() ? child : name + '/' + child);
    }
  }

  void entry(const std::string& name) {
    ++result.entries;
    struct stat left {};
    struct stat right {};
    if (::lstat((expected / name).c_str(), &left) != 0 ||
        ::lstat((found / name).c_str(), &right) != 0) {
      return differ(name, "cannot be looked at");
    }
    check(name, "modes", left.st_mode, right.st_mode);
    check(name, "owners", left.st_uid, right.st_uid);
    check(name, "groups", left.st_gid, right.st_gid);
    check(name, "times", left.st_mtim.tv_sec, right.st_mtim.tv_sec);
    if (S_ISDIR(left.st_mode)) return directory(name);
    // A directory's size and link count are the file system's own affair; a file's are not.
    check(name, "sizes", left.st_size, right.st_size);
    check(name, "link counts", left.st_nlink, right.st_nlink);
    check(name, "device numbers", left.st_rdev, right.st_rdev);
    const auto [known, fresh] = files.emplace(left.st_ino, right.st_ino);
    if (known->second != right.st_ino) differ(name, "is linked with other names");
    if (S_ISLNK(left.st_mode)) {
      if (fs::read_symlink(expected / name) != fs::read_symlink(found / name)) {
        differ(name, "links elsewhere");
      }
    } else if (S_ISREG(left.st_mode) && fresh) {
      bytes(name);
    }
  }

  // In pieces, so that a sparse file of many gigabytes needs no more memory than a small one.
  void bytes(const std::string& name) {
    const UniqueFd left(::open((expected / name).c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd right(::open((found / name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!left || !right) return differ(name, "cannot be opened");
    constexpr std::size_t kPiece = std::size_t{1} << 20;
    std::vector<std::byte> one(kPiece);
    std::vector<std::byte> other(kPiece);
    for (std::uint64_t offset = 0;; offset += kPiece) {
      const std::size_t size = pread_full(left.get(), one, offset);
      const std::size_t other_size = pread_full(right.get(), other, offset);
      if (size != other_size ||
          !std::equal(one.begin(), one.begin() + static_cast<long>(size), other.begin())) {
        return differ(name, "holds other bytes from " + std::to_string(offset) + " on");
      }
      if (size < kPiece) return;
    }
  }
};

}  // namespace

Comparison compare_trees(const fs::path& expected, const fs::path& found) {
  Walk walk{expected, found, {}, {}};
  walk.directory("");
  return std::move(walk.result);
}

}  // namespace pyram::test
