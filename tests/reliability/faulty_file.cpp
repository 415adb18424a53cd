#include "tests/reliability/faulty_file.h"

#define FUSE_USE_VERSION 35
#include <fcntl.h>
#include <fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <string>
#include <thread>

#include "support/process.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"

namespace pyram::test {

namespace fs = std::filesystem;

struct FaultyFile::Server {
  UniqueFd content;
  fs::path directory;
  fuse* session = nullptr;
  std::thread thread;

  std::mutex mutex;  // Guards what follows.
  int reads = 0;
  int fault = 0;
  int skip = 0;  // Reads before the first that fails.
  int left = 0;  // Reads to fail.
  int failed = 0;

  // Whether this read is to fail.
  bool count_read(int& with) {
    const std::lock_guard lock(mutex);
    ++reads;
    if (left == 0 || skip-- > 0) return false;
    skip = 0;
    --left;
    ++failed;
    with = fault;
    return true;
  }

  static Server& self() { return *static_cast<Server*>(::fuse_get_context()->private_data); }

  static int get_attributes(const char* path, struct stat* status, fuse_file_info*) {
    if (std::string_view(path) == "/") {
      status->st_mode = S_IFDIR | 0755;
      return 0;
    }
    if (std::string_view(path) != "/image") return -ENOENT;
    if (::fstat(self().content.get(), status) != 0) return -errno;
    return 0;
  }

  static int open(const char*, fuse_file_info* file) {
    file->direct_io = 1;
    return 0;
  }

  static int read(const char*, char* buffer, std::size_t size, off_t offset, fuse_file_info*) {
    int fault = 0;
    if (self().count_read(fault)) {
      if (fault != kShortRead) return -fault;
      size = (size + 1) / 2;
    }
    const ssize_t got = ::pread(self().content.get(), buffer, size, offset);
    return got < 0 ? -errno : static_cast<int>(got);
  }
};

FaultyFile::FaultyFile(const fs::path& content, const fs::path& directory)
    : server_(std::make_unique<Server>()) {
  server_->content.reset(::open(content.c_str(), O_RDONLY | O_CLOEXEC));
  server_->directory = directory;
  fs::create_directories(directory);
  static constexpr fuse_operations kOperations = [] {
    fuse_operations operations{};
    operations.getattr = &Server::get_attributes;
    operations.open = &Server::open;
    operations.read = &Server::read;
    return operations;
  }();
  std::string name = "faulty";
  std::array<char*, 1> words = {name.data()};
  fuse_args arguments = FUSE_ARGS_INIT(static_cast<int>(words.size()), words.data());
  server_->session = ::fuse_new(&arguments, &kOperations, sizeof(kOperations), server_.get());
  ::fuse_opt_free_args(&arguments);
  REQUIRE(server_->session != nullptr);
  REQUIRE(::fuse_mount(server_->session, directory.c_str()) == 0);
  server_->thread = std::thread([raw = server_.get()] { ::fuse_loop(raw->session); });
}

FaultyFile::~FaultyFile() {
  // The loop ends when the kernel says that the mount is gone; by force, whoever has it open.
  if (::umount2(server_->directory.c_str(), MNT_FORCE | MNT_DETACH) != 0) {
    static_cast<void>(
        pyram::run({.arguments = {"fusermount3", "-u", "-z", server_->directory.native()}}));
  }
  server_->thread.join();
  ::fuse_unmount(server_->session);
  ::fuse_destroy(server_->session);
}

fs::path FaultyFile::path() const { return server_->directory / "image"; }

void FaultyFile::fail(int fault, int skipped, int count) {
  const std::lock_guard lock(server_->mutex);
  server_->fault = fault;
  server_->skip = skipped;
  server_->left = count;
  server_->failed = 0;
}

int FaultyFile::heal() {
  const std::lock_guard lock(server_->mutex);
  server_->left = 0;
  return server_->failed;
}

int FaultyFile::reads() const {
  const std::lock_guard lock(server_->mutex);
  return server_->reads;
}

}  // namespace pyram::test
