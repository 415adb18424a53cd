// Images that are damaged or made to do harm: what the fuzzers found, and a thousand of our own.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "fusefs/unpack/extract.h"
#include "support/error.h"
#include "support/io.h"
#include "tests/fuzz/elf.h"
#include "tests/fuzz/manifest.h"
#include "tests/fuzz/walk.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::ExitCode;
using pyram::Outcome;
using namespace pyram::test;

namespace {

std::vector<fs::path> corpus(const std::string& name) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(PYRAM_TEST_SOURCE "/tests/fuzz/corpus/" + name)) {
    files.push_back(entry.path());
  }
  REQUIRE_FALSE(files.empty());
  return files;
}

// The same image as the one before, but for a few bytes: at random places, or in the fields that
// everything else hangs on; numbers are made large, small or just wrong.
class Mutator {
 public:
  explicit Mutator(std::string image) : image_(std::move(image)) {}

  std::string next() {
    std::string result = image_;
    const int changes = 1 + static_cast<int>(chance_() % 6);
    for (int i = 0; i < changes; ++i) {
      constexpr std::size_t kSuperblock = 96;
      const bool early = chance_() % 4 == 0;
      const std::size_t at = chance_() % (early ? kSuperblock : result.size());
      switch (chance_() % 5) {
        case 0:
          result[at] = static_cast<char>(result[at] ^ (1 << chance_() % 8));
          break;
        case 1:
          result[at] = static_cast<char>(chance_());
          break;
        case 2:
          for (std::size_t j = at; j < std::min(at + 4, result.size()); ++j) result[j] = '\xff';
          break;
        case 3:
          for (std::size_t j = at; j < std::min(at + 8, result.size()); ++j) result[j] = '\0';
          break;
        default:  // A piece of it lies elsewhere.
          for (std::size_t j = 0; j < 16 && at + j < result.size(); ++j) {
            result[at + j] = image_[(at * 7 + j) % image_.size()];
          }
      }
    }
    return result;
  }

 private:
  const std::string image_;
  std::mt19937 chance_{20261121};
};

// Reads what is below `directory`, up to a bound: errors are what is to be expected.
class MountWalk {
 public:
  void look_into(const fs::path& directory, int depth) {
    DIR* const listing = ::opendir(directory.c_str());
    if (listing == nullptr) return;
    std::vector<fs::path> directories;
    while (const dirent* const entry = ::readdir(listing)) {
      const std::string name = entry->d_name;
      constexpr int kMostEntries = 1000;
      if (name == "." || name == ".." || ++entries_ > kMostEntries) continue;
      const fs::path path = directory / name;
      struct stat status {};
      if (::lstat(path.c_str(), &status) != 0) continue;
      if (S_ISDIR(status.st_mode)) directories.push_back(path);
      if (S_ISREG(status.st_mode)) read(path);
      std::array<char, 4096> text;
      if (S_ISLNK(status.st_mode) && ::readlink(path.c_str(), text.data(), text.size()) < 0) {
        ++errors;
      }
    }
    ::closedir(listing);
    constexpr int kDeepest = 8;
    if (depth == kDeepest) return;
    for (const fs::path& path : directories) look_into(path, depth + 1);
  }

  std::uint64_t errors = 0;

 private:
  void read(const fs::path& path) {
    const pyram::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) return;
    std::array<char, 65536> buffer;
    for (int i = 0; i < 16; ++i) {
      const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
      if (got < 0) ++errors;
      if (got <= 0) return;
    }
  }

  int entries_ = 0;
};

// Mounts and reads it all. Returns whether it could be mounted.
bool mount_and_walk(const fs::path& image, const fs::path& point) {
  const Outcome outcome =
      pyram::run({.arguments = {program("pyram-mount"), image.native(), point.native()}});
  if (!outcome.ok()) {
    INFO(outcome.errors);
    CHECK(outcome.status == static_cast<int>(ExitCode::kBadImage));
    CHECK_FALSE(is_mounted(point));
    return false;
  }
  MountWalk().look_into(point, 0);
  const Outcome status =
      pyram::run({.arguments = {program("pyram-mount"), "--status", "--all", point.native()}});
  INFO(status.output << status.errors);
  CHECK(status.output.find("worker restarts            0\n") != std::string::npos);
  CHECK(pyram::run({.arguments = {program("pyram-mount"), "--unmount", point.native()}}).ok());
  return true;
}

// What a tree has: of each path a file's bytes, a link's target, or nothing for everything else.
// Errors are counted and left out.
class Contents {
 public:
  explicit Contents(const fs::path& root) : root_(root) { look_into("", 0); }

  std::map<std::string, std::string> files;
  std::uint64_t errors = 0;
  bool complete = true;  // No bound was reached.

 private:
  void look_into(const fs::path& directory, int depth) {
    constexpr int kDeepest = 8;
    constexpr std::size_t kMostFiles = 1000;
    if (depth > kDeepest || files.size() > kMostFiles) {
      complete = false;
      return;
    }
    DIR* const listing = ::opendir((root_ / directory).c_str());
    if (listing == nullptr) {
      ++errors;
      return;
    }
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* const entry = ::readdir(listing)) names.emplace_back(entry->d_name);
    if (errno != 0) ++errors;
    ::closedir(listing);
    for (const std::string& name : names) {
      if (name != "." && name != "..") look_at(directory / name, depth);
    }
  }

  void look_at(const fs::path& path, int depth) {
    const fs::path place = root_ / path;
    struct stat status {};
    if (::lstat(place.c_str(), &status) != 0) {
      ++errors;
    } else if (S_ISDIR(status.st_mode)) {
      files[path] = "";
      look_into(path, depth + 1);
    } else if (S_ISREG(status.st_mode)) {
      read(place, files[path]);
    } else if (S_ISLNK(status.st_mode)) {
      std::array<char, 4096> text;
      const ssize_t got = ::readlink(place.c_str(), text.data(), text.size());
      if (got < 0) ++errors;
      if (got >= 0) files[path] = std::string(text.data(), static_cast<std::size_t>(got));
    }
  }

  void read(const fs::path& place, std::string& content) {
    const pyram::UniqueFd file(::open(place.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    std::vector<char> buffer(65536);
    for (;;) {
      const ssize_t got = file ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
      if (got < 0) ++errors;
      if (got <= 0) return;
      content.append(buffer.data(), static_cast<std::size_t>(got));
      constexpr std::size_t kLongest = std::size_t{4} << 20;
      if (content.size() > kLongest) {
        complete = false;
        return;
      }
    }
  }

  const fs::path root_;
};

enum class Agreed { kSame, kBothFail, kNotCompared };

// Mounts the image and unpacks it as `directory`/out. Either both have the same files with the same
// bytes, or both say that it is damaged.
Agreed compare_ways(const fs::path& image, const TemporaryDirectory& directory) {
  const fs::path point = directory / "mount";
  const fs::path out = directory / "out";
  std::optional<pyram::Error> refused;
  fs::remove_all(out);
  try {
    pyram::extract_image({.image = image, .directory = out, .threads = 1});
  } catch (const pyram::Error& error) {
    refused = error;
  }
  const Outcome outcome =
      pyram::run({.arguments = {program("pyram-mount"), image.native(), point.native()}});
  if (!outcome.ok()) {
    CHECK(refused);
    return Agreed::kBothFail;
  }
  const Contents mounted(point);
  CHECK(pyram::run({.arguments = {program("pyram-mount"), "--unmount", point.native()}}).ok());
  if (!mounted.complete) return Agreed::kNotCompared;
  if (refused) {
    INFO(refused->what());
    // Nothing is wrong with one directory in two places until it is to be unpacked, and a name that
    // occurs twice can't be written twice.
    const bool is_tree = std::string_view(refused->what()).find("two places") == std::string::npos;
    if (refused->code() != ExitCode::kBadImage || !is_tree) return Agreed::kNotCompared;
    CHECK(mounted.errors > 0);
    return Agreed::kBothFail;
  }
  CHECK(mounted.errors == 0);
  CHECK(mounted.files == Contents(out).files);
  return Agreed::kSame;
}

}  // namespace

TEST_CASE("a changed image is the same mounted and unpacked, or both fail") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "mount");
  const fs::path image = directory / "image.sqfs";
  std::map<Agreed, int> counts;
  for (const char* name : {"zstd", "plain", "plain-data"}) {
    Mutator mutator(pyram::read_file(PYRAM_TEST_SOURCE "/tests/fuzz/corpus/image/" +
                                     std::string(name) + ".sqfs"));
    constexpr int kImages = 100;
    for (int i = 0; i < kImages; ++i) {
      pyram::write_file(image, mutator.next());
      INFO(name << " " << i);
      ++counts[compare_ways(image, directory)];
    }
  }
  std::printf("changed images: %d the same mounted and unpacked, %d fail, %d not compared\n",
              counts[Agreed::kSame], counts[Agreed::kBothFail], counts[Agreed::kNotCompared]);
  CHECK(counts[Agreed::kSame] > 10);
  CHECK(counts[Agreed::kBothFail] > 10);
}

TEST_CASE("every image of the corpus is walked, and is an error or is read") {
  Walked all;
  for (const fs::path& file : corpus("image")) {
    INFO(file);
    const std::string bytes = pyram::read_file(file);
    const Walked walked = walk_image(file_of(std::as_bytes(std::span(bytes))));
    all.inodes += walked.inodes;
    all.errors += walked.errors;
  }
  CHECK(all.inodes > 100);
  CHECK(all.errors > 10);
  for (const fs::path& file : corpus("hot-list")) {
    INFO(file);
    const std::string bytes = pyram::read_file(file);
    check_hot_list(std::as_bytes(std::span(bytes)));
  }
  for (const fs::path& file : corpus("trailer")) {
    INFO(file);
    const std::string bytes = pyram::read_file(file);
    check_trailer(std::as_bytes(std::span(bytes)));
  }
}

TEST_CASE("every manifest of the corpus is shown or refused") {
  int shown = 0;
  int refused = 0;
  for (const fs::path& file : corpus("manifest")) {
    INFO(file);
    ++(check_manifest(pyram::read_file(file)) ? shown : refused);
  }
  CHECK(shown > 0);
  CHECK(refused > 0);
  // Too long to be kept: it exhausted the stack of who wrote it again.
  CHECK_FALSE(check_manifest(R"({"files": {}, "packages": )" + std::string(1'000'000, '[') +
                             std::string(1'000'000, ']') + "}"));
}

TEST_CASE("every library of the corpus is improved or left as it is, and so are changed ones") {
  int changes = 0;
  for (const fs::path& file : corpus("elf")) {
    INFO(file);
    const std::string bytes = pyram::read_file(file);
    changes += improve_elf(std::as_bytes(std::span(bytes)));
  }
  CHECK(changes > 5);
  int changed_libraries = 0;
  for (const char* name : {"pointers.so", "packed.so", "tls.so"}) {
    Mutator mutator(
        pyram::read_file(PYRAM_TEST_SOURCE "/tests/fuzz/corpus/elf/" + std::string(name)));
    for (int i = 0; i < 1000; ++i) {
      const std::string library = mutator.next();
      changed_libraries += improve_elf(std::as_bytes(std::span(library))) > 0 ? 1 : 0;
    }
  }
  std::printf("3,000 changed libraries, %d could be improved\n", changed_libraries);
  CHECK(changed_libraries > 100);
}

TEST_CASE("images of each compressor are whole, so that a changed one says something") {
  for (const char* name : {"zstd", "gzip", "xz", "lz4", "lzo", "plain"}) {
    INFO(name);
    const std::string bytes = pyram::read_file(PYRAM_TEST_SOURCE "/tests/fuzz/corpus/image/" +
                                               std::string(name) + ".sqfs");
    const Walked walked = walk_image(file_of(std::as_bytes(std::span(bytes))));
    CHECK(walked.errors == 0);
    CHECK(walked.bytes > 10'000);
  }
}

TEST_CASE("every image of the corpus is mounted or refused") {
  const TemporaryDirectory directory;
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  for (const fs::path& file : corpus("image")) {
    INFO(file);
    mount_and_walk(file, point);
  }
}

TEST_CASE("ten thousand changed images are walked") {
  std::uint64_t errors = 0;
  for (const char* name : {"zstd", "plain", "plain-data", "index"}) {
    Mutator mutator(pyram::read_file(PYRAM_TEST_SOURCE "/tests/fuzz/corpus/image/" +
                                     std::string(name) + ".sqfs"));
    for (int i = 0; i < 2500; ++i) {
      const std::string image = mutator.next();
      errors += walk_image(file_of(std::as_bytes(std::span(image)))).errors;
    }
  }
  std::printf("10,000 changed images, %llu errors found in them\n",
              static_cast<unsigned long long>(errors));
  CHECK(errors > 1000);
}

TEST_CASE("a thousand changed images are mounted for real and read") {
  const TemporaryDirectory directory;
  const fs::path point = directory / "mount";
  const fs::path image = directory / "image.sqfs";
  fs::create_directory(point);
  int mounted = 0;
  for (const char* name : {"zstd", "plain"}) {
    Mutator mutator(pyram::read_file(PYRAM_TEST_SOURCE "/tests/fuzz/corpus/image/" +
                                     std::string(name) + ".sqfs"));
    for (int i = 0; i < 500; ++i) {
      pyram::write_file(image, mutator.next());
      INFO(name << " " << i);
      if (mount_and_walk(image, point)) ++mounted;
    }
  }
  std::printf("1,000 changed images, %d could be mounted\n", mounted);
  CHECK(mounted > 100);
  CHECK(mounted < 1000);
}
