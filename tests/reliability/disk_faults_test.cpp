// A disk that fails and memory that is short: every read gives the right bytes or an error, and
// nothing of the error is left once the fault is over.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fusefs/image/image.h"
#include "fusefs/serve/block_cache.h"
#include "fusefs/serve/extent_mapper.h"
#include "support/error.h"
#include "support/io.h"
#include "tests/reliability/allocations.h"
#include "tests/reliability/contents.h"
#include "tests/reliability/faulty_file.h"
#include "tests/reliability/readers.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::Error;
using pyram::Image;
using pyram::Outcome;
using namespace pyram::test;

namespace {

// What a program sees of the files of a mount.
struct Seen {
  int right = 0;
  int wrong = 0;
  std::map<int, int> errors;  // How many of each errno value.
};

void look_at(const fs::path& expected, const fs::path& found, Seen& seen) {
  const auto failed = [&seen] { ++seen.errors[errno]; };
  struct stat left {};
  struct stat right {};
  REQUIRE(::lstat(expected.c_str(), &left) == 0);
  if (::lstat(found.c_str(), &right) != 0) return failed();
  bool same = left.st_mode == right.st_mode && left.st_mtime == right.st_mtime;
  if (S_ISLNK(left.st_mode)) {
    std::string target(4096, '\0');
    const ssize_t length = ::readlink(found.c_str(), target.data(), target.size());
    if (length < 0) return failed();
    target.resize(static_cast<std::size_t>(length));
    same = same && target == fs::read_symlink(expected).native();
  }
  if (S_ISREG(left.st_mode)) {
    const pyram::UniqueFd file(::open(found.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return failed();
    std::string content(static_cast<std::size_t>(left.st_size) + 1, '\0');
    std::size_t done = 0;
    for (ssize_t got = 1; got > 0; done += static_cast<std::size_t>(got)) {
      got = ::read(file.get(), &content[done], content.size() - done);
      if (got < 0) return failed();
    }
    content.resize(done);
    same = same && content == pyram::read_file(expected);
  }
  ++(same ? seen.right : seen.wrong);
}

Seen look_at_all(const fs::path& expected, const fs::path& found) {
  Seen seen;
  for (const auto& entry : fs::recursive_directory_iterator(expected)) {
    look_at(entry.path(), found / entry.path().lexically_relative(expected), seen);
  }
  // A name that isn't there has to be not there, and not unreadable, and the other way round.
  struct stat status {};
  if (::lstat((found / "names/no such name").c_str(), &status) == 0) {
    ++seen.wrong;
  } else if (errno != ENOENT) {
    ++seen.errors[errno];
  }
  return seen;
}

}  // namespace

TEST_CASE("whichever read of an image fails, what is read is right or an error") {
  const bool verified = GENERATE(false, true);
  const auto verify = verified ? Image::Verify::kYes : Image::Verify::kNo;
  const TemporaryDirectory directory;
  const fs::path image = make_sealed_image(directory.path());
  const std::string expected = contents_of(*Image::open(image));
  FaultyFile file(image, directory / "disk");
  CHECK(contents_of(*Image::open(file.path(), 0, verify)) == expected);
  const int reads = file.reads();
  REQUIRE(reads > 20);
  int errors = 0;
  // What a file system below may say, also what would mean something else to who asked us.
  for (const int fault : {EIO, ENODATA, ENOENT, ENOMEM}) {
    for (int i = 0; i < reads; ++i) {
      INFO("read " << i << " fails with " << fault);
      file.fail(fault, i);
      std::unique_ptr<Image> opened;
      std::string contents;
      try {
        opened = Image::open(file.path(), 0, verify);
        contents = contents_of(*opened);
      } catch (const Error& error) {
        CHECK(error.error_number() == EIO);
        CHECK(std::string(error.what()).find(file.path().native()) != std::string::npos);
        ++errors;
      }
      CHECK((contents.empty() || contents == expected));
      CHECK(file.heal() == 1);
      // What was opened before the fault serves after it.
      if (opened) CHECK(contents_of(*opened) == expected);
    }
  }
  // These are no errors at all.
  for (const int fault : {EINTR, FaultyFile::kShortRead}) {
    for (int i = 0; i < reads; ++i) {
      INFO("read " << i << " is cut or interrupted: " << fault);
      file.fail(fault, i);
      CHECK(contents_of(*Image::open(file.path(), 0, verify)) == expected);
      CHECK(file.heal() == 1);
    }
  }
  std::printf("%d reads, %d faults, %d errors\n", reads, 6 * reads, errors);
  // All but the kernel's own, which it makes because we said that we'd read the metadata soon.
  constexpr int kReadAhead = 2;
  CHECK(errors <= 4 * reads);
  CHECK(errors >= 4 * (reads - kReadAhead));
}

TEST_CASE("whichever read of a mounted image fails, programs get an error, and only once") {
  const TemporaryDirectory directory;
  const fs::path image = make_sealed_image(directory.path());
  FaultyFile file(image, directory / "disk");
  const auto options = std::vector<std::string>{"--prefetch", "none"};
  const int before = file.reads();
  { const Mount mount(file.path(), options); }
  const int of_mount = file.reads() - before;
  {
    const Mount mount(file.path(), options);
    const Seen seen = look_at_all(directory / "tree", mount.path());
    CHECK(seen.right > 30);
    CHECK(seen.wrong == 0);
    CHECK(seen.errors.empty());
  }
  const int reads = file.reads() - before - 2 * of_mount;
  REQUIRE(reads > 10);
  int errors = 0;
  int failed = 0;  // Not all: how many there are depends on who is first at a block.
  for (int i = 0; i < reads; ++i) {
    INFO("the reads after " << i << " fail");
    const Mount mount(file.path(), options);
    // Twice: of what the kernel reads ahead in vain it asks again when a program wants it.
    file.fail(i % 2 == 0 ? EIO : ENOENT, i, 2);
    const Seen during = look_at_all(directory / "tree", mount.path());
    if (file.heal() > 0) ++failed;
    CHECK(during.wrong == 0);
    for (const auto& [number, count] : during.errors) {
      CHECK(number == EIO);
      errors += count;
    }
    // Neither the kernel nor we remember it.
    const Seen after = look_at_all(directory / "tree", mount.path());
    CHECK(after.wrong == 0);
    CHECK(after.errors.empty());
    CHECK(mount.count("worker_restarts") == 0);
  }
  std::printf("%d of %d reads failed, %d errors seen\n", failed, reads, errors);
  CHECK(failed > reads / 2);
  CHECK(errors > reads / 4);
}

TEST_CASE("a disk that is gone for a while is errors for that time, and no longer") {
  const TemporaryDirectory directory;
  const fs::path image = make_sealed_image(directory.path());
  FaultyFile file(image, directory / "disk");
  const Mount mount(file.path(), {"--prefetch", "none"});
  constexpr int kForEver = 1 << 30;
  file.fail(EIO, 0, kForEver);
  const Seen during = look_at_all(directory / "tree", mount.path());
  CHECK(during.wrong == 0);
  CHECK_FALSE(during.errors.empty());
  CHECK(during.errors.begin()->first == EIO);
  CHECK(during.errors.size() == 1);
  CHECK(file.heal() > 0);
  const Seen after = look_at_all(directory / "tree", mount.path());
  CHECK(after.wrong == 0);
  CHECK(after.errors.empty());
  CHECK(mount.count("worker_restarts") == 0);
}

TEST_CASE("a mount of an image that can't be read is refused, whichever read it is") {
  const TemporaryDirectory directory;
  const fs::path image = make_sealed_image(directory.path());
  FaultyFile file(image, directory / "disk");
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  const auto mount = [&] {
    return pyram::run({.arguments = {program("pyram-mount"), "--verify", "--prefetch", "none",
                                     file.path().native(), point.native()}});
  };
  const auto unmount = [&] {
    return pyram::run({.arguments = {program("pyram-mount"), "--unmount", point.native()}}).ok();
  };
  REQUIRE(mount().ok());
  const int reads = file.reads();
  REQUIRE(unmount());
  int refused = 0;
  for (int i = 0; i < reads; ++i) {
    INFO("read " << i << " of " << reads);
    file.fail(EIO, i);
    const Outcome outcome = mount();
    INFO(outcome.errors);
    CHECK(file.heal() == 1);
    if (outcome.ok()) {
      // One that only the kernel made, to have the bytes before they are asked for.
      CHECK(unmount());
      continue;
    }
    ++refused;
    CHECK_FALSE(is_mounted(point));
    CHECK(outcome.errors.find(file.path().native()) != std::string::npos);
    CHECK(std::count(outcome.errors.begin(), outcome.errors.end(), '\n') == 1);
  }
  constexpr int kReadAhead = 2;
  CHECK(refused >= reads - kReadAhead);
}

TEST_CASE("whichever allocation fails, what is read is right or that error, and later right") {
  const TemporaryDirectory directory;
  const auto image = Image::open(make_sealed_image(directory.path()), 0, Image::Verify::kYes);
  pyram::Statistics statistics;
  // Two blocks, so that one that got lost would be missed.
  pyram::BlockCache cache(*image, statistics, 0, 1);
  pyram::ExtentMapper reader(*image, cache);
  const std::string expected = contents_of(*image, reader);
  int failed = 0;
  for (bool more = true; more; ++failed) {
    INFO("allocation " << failed);
    // From nothing, as after some idle time.
    image->forget_metadata();
    reader.forget_maps();
    cache.release_idle();
    bool complete = true;
    std::string contents;
    fail_allocation(failed);
    try {
      contents = contents_of(*image, reader);
    } catch (const std::bad_alloc&) {
      complete = false;
    }
    more = heal_allocations();
    if (complete != (contents == expected) || complete == more) {
      FAIL("complete: " << complete << ", failed: " << more);
    }
    if (failed % 16 == 0 && contents_of(*image, reader) != expected) FAIL("it is not over");
  }
  CHECK(contents_of(*image, reader) == expected);
  std::printf("%d allocations failed, one after the other\n", failed - 1);
  CHECK(failed > 100);
}

TEST_CASE("a worker without memory answers with an error, and right once there is some") {
  PYRAM_SKIP_WITH_SANITIZERS("they end a program that gets no memory");
  const TemporaryDirectory directory;
  make_files(directory / "tree", 8, std::size_t{1} << 20);
  const Mount mount(make_image(directory / "tree", directory / "files.sqfs"),
                    {"--prefetch", "none"});
  const pid_t worker = mount.worker();
  struct rlimit before {};
  REQUIRE(::prlimit(worker, RLIMIT_AS, nullptr, &before) == 0);
  // Not a page more than it has, of any kind.
  const struct rlimit none = {1, before.rlim_max};
  REQUIRE(::prlimit(worker, RLIMIT_AS, &none, nullptr) == 0);
  const Seen during = look_at_all(directory / "tree", mount.path());
  CHECK(during.wrong == 0);
  REQUIRE(during.errors.size() == 1);
  CHECK(during.errors.begin()->first == ENOMEM);
  std::printf("without memory: %d files right, %d not to be had\n", during.right,
              during.errors.begin()->second);
  REQUIRE(::prlimit(worker, RLIMIT_AS, &before, nullptr) == 0);
  CHECK(mount.worker() == worker);
  const Seen after = look_at_all(directory / "tree", mount.path());
  CHECK(after.wrong == 0);
  CHECK(after.errors.empty());
}
