// What programs expect of any read-only file system, besides reading.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <map>
#include <string>

#include "fusefs/image/image.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::UniqueFd;
using pyram::test::Mount;
using pyram::test::TemporaryDirectory;

namespace {

// Three blocks and a tail, no two pages the same.
std::string long_text() {
  std::string text;
  for (int line = 0; text.size() < 400'000; ++line) text += "line " + std::to_string(line) + "\n";
  return text;
}

fs::path image_of(const TemporaryDirectory& directory, const std::string& content) {
  fs::create_directories(directory / "tree/directory/deeper");
  pyram::write_file(directory / "tree/file", content);
  pyram::write_file(directory / "tree/directory/deeper/small", "small");
  fs::create_symlink("file", directory / "tree/link");
  return pyram::test::make_image(directory / "tree", directory / "image");
}

UniqueFd open_file(const fs::path& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(file);
  return file;
}

std::map<std::string, ino_t> inode_numbers(const fs::path& root) {
  std::map<std::string, ino_t> numbers;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    struct stat status {};
    REQUIRE(::lstat(entry.path().c_str(), &status) == 0);
    numbers[entry.path().lexically_relative(root)] = status.st_ino;
  }
  return numbers;
}

}  // namespace

TEST_CASE("statfs tells the image's size, and that there is no room") {
  const TemporaryDirectory directory;
  const fs::path image = image_of(directory, long_text());
  const Mount mount(image);
  struct statvfs status {};
  REQUIRE(::statvfs(mount.path().c_str(), &status) == 0);
  const auto super = pyram::Image::open(image)->superblock();
  CHECK(status.f_blocks * status.f_frsize >= super.bytes_used);
  CHECK((status.f_blocks - 1) * status.f_frsize < super.bytes_used);
  CHECK(status.f_bfree == 0);
  CHECK(status.f_bavail == 0);
  CHECK(status.f_files == super.inode_count);
  CHECK(status.f_ffree == 0);
  CHECK(status.f_namemax == 256);
  CHECK((status.f_flag & ST_RDONLY) != 0);
}

TEST_CASE("sendfile, splice and mmap give what read gives") {
  const TemporaryDirectory directory;
  const std::string text = long_text();
  const Mount mount(image_of(directory, text));
  const UniqueFd file = open_file(mount / "file");
  SECTION("sendfile") {
    const UniqueFd copy(
        ::open((directory / "copy").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    off_t offset = 0;
    while (::sendfile(copy.get(), file.get(), &offset, text.size()) > 0) {
    }
    CHECK(pyram::read_file(directory / "copy") == text);
  }
  SECTION("splice") {
    const auto [reader, writer] = pyram::make_pipe();
    std::string got;
    std::array<char, 4096> piece{};
    while (::splice(file.get(), nullptr, writer.get(), nullptr, piece.size(), 0) > 0) {
      const ssize_t size = ::read(reader.get(), piece.data(), piece.size());
      REQUIRE(size > 0);
      got.append(piece.data(), static_cast<std::size_t>(size));
    }
    CHECK(got == text);
  }
  SECTION("mmap") {
    for (const int kind : {MAP_PRIVATE, MAP_SHARED}) {
      void* const mapped = ::mmap(nullptr, text.size(), PROT_READ, kind, file.get(), 0);
      REQUIRE(mapped != MAP_FAILED);
      CHECK(std::string_view(static_cast<const char*>(mapped), text.size()) == text);
      ::munmap(mapped, text.size());
    }
  }
}

TEST_CASE("nothing can be written, made, changed or removed") {
  const TemporaryDirectory directory;
  const Mount mount(image_of(directory, "text"));
  const std::string file = mount / "file";
  const std::string missing = mount / "missing";
  CHECK(::open(file.c_str(), O_WRONLY | O_CLOEXEC) < 0);
  CHECK(errno == EROFS);
  CHECK(::open(missing.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0);
  CHECK(errno == EROFS);
  CHECK(::mkdir(missing.c_str(), 0700) < 0);
  CHECK(errno == EROFS);
  CHECK(::chmod(file.c_str(), 0600) < 0);
  CHECK(errno == EROFS);
  CHECK(::unlink(file.c_str()) < 0);
  CHECK(errno == EROFS);
  CHECK(::rename(file.c_str(), missing.c_str()) < 0);
  CHECK(errno == EROFS);
}

TEST_CASE("inode numbers are the image's own, in every mount") {
  const TemporaryDirectory directory;
  const fs::path image = image_of(directory, "text");
  const Mount first(image);
  const Mount second(image);
  // Asked for in another order, they would differ if they were given out as they are asked for.
  struct stat status {};
  REQUIRE(::stat((second / "directory/deeper/small").c_str(), &status) == 0);
  const auto numbers = inode_numbers(first.path());
  CHECK(numbers.size() == 5);
  CHECK(numbers == inode_numbers(second.path()));
  CHECK(numbers.at("directory/deeper/small") == status.st_ino);
}

TEST_CASE("a file handle, as an NFS server gives it out, means the same file in the next mount") {
  if (!pyram::test::running_as_root()) PYRAM_SKIP("opening by handle is root's");
  const TemporaryDirectory directory;
  const fs::path image = image_of(directory, "text");
  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + MAX_HANDLE_SZ> memory{};
  auto* const handle = reinterpret_cast<file_handle*>(memory.data());
  handle->handle_bytes = MAX_HANDLE_SZ;
  {
    const Mount mount(image);
    int mount_number = 0;
    REQUIRE(::name_to_handle_at(AT_FDCWD, (mount / "directory/deeper/small").c_str(), handle,
                                &mount_number, 0) == 0);
  }
  const Mount mount(image);
  const UniqueFd root(::open(mount.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd file(::open_by_handle_at(root.get(), handle, O_RDONLY | O_CLOEXEC));
  REQUIRE(file);
  std::array<char, 16> text{};
  CHECK(::read(file.get(), text.data(), text.size()) == 5);
  CHECK(std::string_view(text.data()) == "small");
}

TEST_CASE("with allow_other others may do what the modes let them, without it nothing") {
  if (!pyram::test::running_as_root()) PYRAM_SKIP("one user alone can't tell");
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  pyram::write_file(directory / "tree/open", "open");
  pyram::write_file(directory / "tree/secret", "secret");
  fs::permissions(directory / "tree/open", fs::perms(0644));
  fs::permissions(directory / "tree/secret", fs::perms(0600));
  const fs::path image = pyram::test::make_image(directory / "tree", directory / "image");
  const auto read_as_other = [](const fs::path& file) {
    return pyram::run(pyram::test::as_plain_user({"cat", file.native()}));
  };
  SECTION("with") {
    const Mount mount(image, {"-o", "allow_other"});
    CHECK(read_as_other(mount / "open").output == "open");
    // As collectstatic --link makes them.
    fs::create_symlink(mount / "open", directory / "link");
    CHECK(read_as_other(directory / "link").output == "open");
    CHECK(read_as_other(mount / "secret").errors.find("Permission denied") != std::string::npos);
  }
  SECTION("without") {
    const Mount mount(image);
    CHECK(read_as_other(mount / "open").errors.find("Permission denied") != std::string::npos);
  }
}
