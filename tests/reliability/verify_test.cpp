// An image of which bytes differ from what was packed: --verify finds each of them, and without it
// nobody would.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "fusefs/image/image.h"
#include "fusefs/image/merkle_tree.h"
#include "support/error.h"
#include "support/io.h"
#include "tests/reliability/contents.h"
#include "tests/reliability/readers.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"
#include "tests/support/tree.h"

namespace fs = std::filesystem;
using pyram::Error;
using pyram::ExitCode;
using pyram::Image;
using pyram::Outcome;
using namespace pyram::test;

namespace {

std::uint64_t squashfs_size(const fs::path& image) {
  return Image::open(image)->superblock().bytes_used;
}

// Where a file's first block is stored.
std::uint64_t data_of(const fs::path& image, const std::string& path) {
  const auto opened = Image::open(image);
  const auto file = pyram::find_path(*opened, path);
  REQUIRE(file);
  return opened->file_map(*file, 0).blocks.at(0).position;
}

Outcome mount_verified(const fs::path& image, const fs::path& point) {
  return pyram::run(
      {.arguments = {program("pyram-mount"), "--verify", image.native(), point.native()}});
}

// What is refused is refused in one line, and leaves no mount.
void check_refused(const fs::path& image, const fs::path& point, ExitCode code,
                   const std::string& why) {
  const Outcome outcome = mount_verified(image, point);
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(code));
  CHECK(outcome.errors.find(why) != std::string::npos);
  CHECK(outcome.errors.find(image.native()) != std::string::npos);
  CHECK(std::count(outcome.errors.begin(), outcome.errors.end(), '\n') == 1);
  CHECK_FALSE(is_mounted(point));
}

fs::path image_of_files(const TemporaryDirectory& directory) {
  make_files(directory / "tree", 8, std::size_t{1} << 20);
  fs::path image = make_image(directory / "tree", directory / "files.sqfs");
  append_merkle_tree(image);
  return image;
}

}  // namespace

TEST_CASE("a changed byte anywhere is found out by who verifies, and not by who doesn't") {
  const TemporaryDirectory directory;
  const fs::path image = make_sealed_image(directory.path());
  const std::string expected = contents_of(*Image::open(image));
  CHECK(contents_of(*Image::open(image, 0, Image::Verify::kYes)) == expected);
  const std::uint64_t size = fs::file_size(image);
  int wrong = 0;
  int found = 0;
  int harmless = 0;
  constexpr std::uint64_t kStep = 97;
  for (std::uint64_t position = 0; position < size; position += kStep) {
    INFO("byte " << position << " of " << size);
    flip(image, position);
    try {
      wrong += contents_of(*Image::open(image)) != expected ? 1 : 0;
    } catch (const Error&) {
      // Found out by the format itself.
    }
    std::string verified;
    try {
      verified = contents_of(*Image::open(image, 0, Image::Verify::kYes));
    } catch (const Error&) {
      ++found;
    }
    if (!verified.empty()) {
      CHECK(verified == expected);
      ++harmless;
    }
    flip(image, position);
  }
  std::printf("%d changed bytes found, %d not; %d of them changed what is read unnoticed\n", found,
              harmless, wrong);
  CHECK(wrong > 100);
  CHECK(found > 10 * harmless);
}

TEST_CASE("a verified mount is what was packed, and its status says so") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const Mount mount(image, {"--verify"});
  const Comparison comparison = compare_trees(directory / "tree", mount.path());
  CHECK(comparison.entries == 8);
  CHECK(comparison.differences.empty());
  CHECK(mount.status().at("verify") == "all");
  CHECK(mount.count("verify_failures") == 0);
  CHECK(Mount(image).status().at("verify") == "none");
}

TEST_CASE("the default image is read whole, verified, as unsquashfs unpacks it") {
  const TemporaryDirectory directory;
  const fs::path tree = directory / "tree";
  REQUIRE(pyram::run({.arguments = {"unsquashfs", "-no-progress", "-quiet", "-d", tree.native(),
                                    default_image().native()}})
              .ok());
  // What somebody unpacks who isn't root is his own.
  const std::string owner =
      "uid=" + std::to_string(::geteuid()) + ",gid=" + std::to_string(::getegid());
  const Mount mount(default_image(), {"--verify", "-o", owner});
  const Comparison comparison = compare_trees(tree, mount.path());
  CHECK(comparison.entries > 1000);
  CHECK(comparison.differences.empty());
  CHECK(mount.count("verify_failures") == 0);
  CHECK(mount.count("errors") == 0);
}

TEST_CASE("a changed byte of a file's data is an error of that file and of nothing else") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const std::uint64_t place = data_of(image, "file-1") + 5000;
  flip(image, place);

  // Its data didn't compress, so nothing else could find out.
  {
    const Mount mount(image);
    CHECK(pyram::read_file(mount / "file-1") != pyram::read_file(directory / "tree/file-1"));
  }

  const fs::path point = directory / "mount";
  const fs::path log = directory / "log";
  fs::create_directory(point);
  const pid_t daemon = serve_in_foreground(image, point, log, {"--verify"});

  const auto status = [&](const std::string& name) {
    const Outcome outcome =
        pyram::run({.arguments = {program("pyram-mount"), "--status", "--all", point.native()}});
    const std::size_t at = outcome.output.find('\n' + name + ' ');
    REQUIRE(at != std::string::npos);
    return std::stoi(outcome.output.substr(at + 1 + name.size()));
  };
  const auto check_all = [&] {
    for (int i = 0; i < 8; ++i) {
      const std::string name = "file-" + std::to_string(i);
      INFO(name);
      if (i == 1) {
        CHECK(error_of_reading(point / name) == EIO);
      } else {
        CHECK(pyram::read_file(point / name) == pyram::read_file(directory / "tree" / name));
      }
    }
    const pyram::UniqueFd file(::open((point / "file-1").c_str(), O_RDONLY | O_CLOEXEC));
    std::vector<std::byte> end(100'000);
    CHECK(pyram::pread_full(file.get(), end, (std::size_t{1} << 20) - end.size()) == end.size());
  };
  check_all();
  CHECK(status("verify failures") > 0);
  CHECK(status("worker restarts") == 0);

  // A worker that goes on after another verifies too, and so does one of the program on disk.
  const pid_t worker = status("worker pid");
  REQUIRE(::kill(worker, SIGKILL) == 0);
  wait_for_end(worker);
  CHECK(error_of_reading(point / "file-1") == EIO);
  CHECK(pyram::run({.arguments = {program("pyram-mount"), "--reload", point.native()}}).ok());
  check_all();

  // What failed is remembered by nobody.
  flip(image, place);
  CHECK(pyram::read_file(point / "file-1") == pyram::read_file(directory / "tree/file-1"));

  CHECK(pyram::run({.arguments = {program("pyram-mount"), "--unmount", point.native()}}).ok());
  wait_for_end(daemon);
  REQUIRE(::waitpid(daemon, nullptr, 0) == daemon);
  const std::string lines = pyram::read_file(log);
  INFO(lines);
  CHECK(lines.find("cannot read '/file-1'") != std::string::npos);
  CHECK(lines.find("the block at byte " + std::to_string(place / 4096 * 4096) + " differs") !=
        std::string::npos);
  CHECK(lines.find("file-2") == std::string::npos);
}

TEST_CASE("changed metadata are an error, at the mount or where they are used") {
  const TemporaryDirectory directory;
  const fs::path image = make_sealed_image(directory.path());
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  const auto opened = Image::open(image);
  const pyram::Superblock super = opened->superblock();

  // The superblock: its time of creation, which nothing hangs on.
  flip(image, 8);
  CHECK(contents_of(*Image::open(image)) == contents_of(*opened));
  check_refused(image, point, ExitCode::kVerification, "the block at byte 0 differs");
  flip(image, 8);
  // The table of owners, and the inode that a mount begins with.
  for (const std::uint64_t position :
       {super.id_table,
        super.inode_table + (super.root_inode >> 16) + 2 + (super.root_inode & 0xffff) + 8}) {
    flip(image, position);
    check_refused(image, point, ExitCode::kVerification, "differs from its Merkle tree");
    flip(image, position);
  }
}

TEST_CASE("a damaged, cut or missing trailer is found out at the mount") {
  const TemporaryDirectory directory;
  const fs::path image = make_sealed_image(directory.path());
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  const std::uint64_t trailer = pyram::trailer_position(squashfs_size(image));
  const std::uint64_t size = fs::file_size(image);
  REQUIRE(size > trailer + pyram::Trailer::kSize);

  flip(image, trailer);  // It isn't known as a trailer any more.
  check_refused(image, point, ExitCode::kVerification, "it has no Merkle tree");
  flip(image, trailer);
  flip(image, trailer + 300);  // The digest.
  check_refused(image, point, ExitCode::kVerification, "the descriptor differs");
  flip(image, trailer + 300);
  flip(image, size - 4096);  // A hash.
  check_refused(image, point, ExitCode::kVerification, "a part of the tree differs");
  flip(image, size - 4096);
  REQUIRE(mount_verified(image, point).ok());
  CHECK(pyram::run({.arguments = {program("pyram-mount"), "--unmount", point.native()}}).ok());

  fs::resize_file(image, size - 1);
  check_refused(image, point, ExitCode::kBadImage, "its Merkle tree is cut");
  fs::resize_file(image, trailer + 1000);
  check_refused(image, point, ExitCode::kBadImage, "its trailer is cut");
  fs::resize_file(image, trailer);
  check_refused(image, point, ExitCode::kVerification, "it has no Merkle tree");
  // None of it keeps anybody from using the image unverified.
  CHECK(fs::exists(Mount(image) / "data/file-0"));
}

TEST_CASE("unpacking verifies as mounting does") {
  const TemporaryDirectory directory;
  const fs::path image = image_of_files(directory);
  const auto extract = [&](const std::string& to) {
    return pyram::run({.arguments = {program("pyram-mount"), "--extract", "--verify",
                                     image.native(), (directory / to).native()}});
  };
  CHECK(extract("whole").ok());
  flip(image, data_of(image, "file-1") + 5000);
  const Outcome outcome = extract("changed");
  INFO(outcome.errors);
  CHECK(outcome.status == static_cast<int>(ExitCode::kVerification));
  CHECK_FALSE(fs::exists(directory / "changed"));
  CHECK_FALSE(fs::exists(directory / "changed.partial"));
}
