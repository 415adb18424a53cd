// A request is replied to once, whatever allocation fails on the way. The session runs in this
// program, so that the allocations that fail are those of the thread that answers; what it answers
// is asked by a child, since a process that waits for itself could not even crash.
#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fusefs/mount/mount_point.h"
#include "fusefs/serve/block_cache.h"
#include "fusefs/serve/block_filler.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/serve/file_system.h"
#include "fusefs/serve/session.h"
#include "fusefs/status.h"
#include "support/io.h"
#include "support/pipe.h"
#include "tests/reliability/allocations.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"

namespace fs = std::filesystem;
using namespace pyram::test;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kBlock = std::size_t{128} << 10;  // mksquashfs's own choice.
constexpr std::size_t kBlocks = 256;

// Serves an image with one thread of this program.
class Server {
 public:
  Server(const fs::path& image, const fs::path& directory)
      : image_(pyram::Image::open(image)),
        cache_(*image_, statistics_, std::size_t{8} << 20, 2),
        extents_(*image_, cache_),
        mount_(pyram::MountPoint::mount({.directory = directory, .source = image})),
        transport_(pyram::UniqueFd(::fcntl(mount_.device(), F_DUPFD_CLOEXEC, 0)), resume_,
                   statistics_, {}, true),
        filler_(*image_, extents_, transport_, statistics_, log_, {.whole_blocks = true}),
        file_system_(*image_, extents_, filler_, statistics_, log_, {},
                     {.status = [] { return std::string("status"); },
                      .reload = [](const pyram::DaemonCalls::ReloadAnswer& answer) { answer(""); }},
                     nullptr),
        session_(file_system_, transport_, false) {
    session_.start(1);
    filler_.start();
  }
  ~Server() {
    ::umount2(mount_.directory().c_str(), MNT_DETACH);
    session_.join();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] std::uint64_t errors() const { return statistics_.errors.value(); }
  [[nodiscard]] std::uint64_t reads() const { return statistics_.requests[kRead].value(); }

 private:
  static constexpr std::size_t kRead = 15;  // FUSE's number.
  pyram::Statistics statistics_;
  std::unique_ptr<pyram::Image> image_;
  pyram::BlockCache cache_;
  pyram::ExtentMapper extents_;
  pyram::Log log_{[](std::string_view, bool) {}};
  pyram::ResumeState resume_;
  pyram::MountPoint mount_;
  pyram::Transport transport_;
  pyram::PageCacheFiller filler_;
  pyram::FileSystem file_system_;
  pyram::Session session_;
};

using Action = std::function<int(int)>;

// A child that does one of `actions` with a number when asked, and tells what it returned: 0 or an
// errno.
class Client {
 public:
  explicit Client(const std::vector<Action>& actions) {
    auto [child_asks, ask] = pyram::make_pipe();
    auto [answer, child_answers] = pyram::make_pipe();
    process_ = ::fork();
    REQUIRE(process_ >= 0);
    if (process_ == 0) {
      ask.reset();
      std::array<int, 2> question{};
      while (::read(child_asks.get(), question.data(), sizeof question) == sizeof question) {
        const int error = actions.at(static_cast<std::size_t>(question[0]))(question[1]);
        if (::write(child_answers.get(), &error, sizeof error) != sizeof error) break;
      }
      ::_exit(0);
    }
    ask_ = std::move(ask);
    answer_ = std::move(answer);
  }
  ~Client() {
    ask_.reset();
    ::waitpid(process_, nullptr, 0);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] int call(std::size_t action, int number) const {
    const std::array<int, 2> question = {static_cast<int>(action), number};
    int error = -1;
    REQUIRE(::write(ask_.get(), question.data(), sizeof question) == sizeof question);
    REQUIRE(::read(answer_.get(), &error, sizeof error) == sizeof error);
    return error;
  }

 private:
  pid_t process_ = -1;
  pyram::UniqueFd ask_;
  pyram::UniqueFd answer_;
};

// Calls `action` with a number that counts up, each time with another allocation of the server
// failing, until none fails. It returns 0 or an errno.
int fail_one_after_another(const Action& action) {
  for (int n = 0;; ++n) {
    fail_allocation_elsewhere(n);
    const int error = action(n);
    if (!heal_allocations_elsewhere()) {
      CHECK(error == 0);
      return n;
    }
    if (error != 0 && error != ENOMEM) FAIL("allocation " << n << ": errno " << error);
  }
}

// What can't be compressed.
int error_of(long result) { return result < 0 ? errno : 0; }

}  // namespace

TEST_CASE("no request is replied to twice where memory is missing") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "tree");
  pyram::write_file(directory / "tree/file-0", noise(kBlocks * kBlock));
  // Names of some length, which don't fit into a string's own place.
  fs::create_symlink(std::string(200, 'x'), directory / "tree/a link with a name of some length");
  for (int i = 0; i < 100; ++i) {
    pyram::write_file(directory / "tree" / ("a small file with a long name " + std::to_string(i)),
                      std::string(1000, 'y'));
  }
  const bool has_attributes =
      ::setxattr((directory / "tree/file-0").c_str(), "user.attribute", "value", 5, 0) == 0;
  const fs::path point = directory / "mount";
  fs::create_directory(point);
  struct Kind {
    const char* name;
    Action action;
  };
  const auto control = [&](unsigned long command, std::size_t size) {
    const pyram::UniqueFd root(::open(point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::vector<char> answer(size);
    return root ? error_of(::ioctl(root.get(), command, answer.data())) : errno;
  };
  const std::vector<Kind> kinds = {
      {"look up",
       [&](int) {
         struct stat status {};
         return error_of(::lstat((point / "a small file with a long name 7").c_str(), &status));
       }},
      {"look up what is not there",
       [&](int) {
         return ::access((point / "nothing").c_str(), F_OK) == 0 ? EEXIST
                : errno == ENOENT                                ? 0
                                                                 : errno;
       }},
      {"read a link",
       [&](int) {
         std::array<char, 512> target{};
         return error_of(::readlink((point / "a link with a name of some length").c_str(),
                                    target.data(), target.size()));
       }},
      {"list",
       [&](int) {
         const pyram::UniqueFd listed(::open(point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
         std::vector<char> entries(std::size_t{1} << 15);
         return error_of(::getdents64(listed.get(), entries.data(), entries.size()));
       }},
      {"statfs",
       [&](int) {
         struct statvfs status {};
         return error_of(::statvfs(point.c_str(), &status));
       }},
      {"read an attribute",
       [&](int) {
         std::array<char, 64> value{};
         const int error = error_of(
             ::getxattr((point / "file-0").c_str(), "user.attribute", value.data(), value.size()));
         return error == EOPNOTSUPP && !has_attributes ? 0 : error;
       }},
      {"list attributes",
       [&](int) {
         std::array<char, 64> names{};
         return error_of(::listxattr((point / "file-0").c_str(), names.data(), names.size()));
       }},
      {"ask for the status",
       [&](int) { return control(pyram::kStatusCommand, pyram::kStatusSize); }},
      {"ask for a reload", [&](int) { return control(pyram::kReloadCommand, pyram::kReloadSize); }},
      {"quiesce", [&](int) { return control(pyram::kQuiesceCommand, 1); }},
      // Of a block each: the rest of one may be stored after the answer, which allocates too.
      {"read",
       [&](int n) {
         if (static_cast<std::size_t>(n) >= kBlocks) return EOVERFLOW;
         const pyram::UniqueFd file(::open((point / "file-0").c_str(), O_RDONLY | O_CLOEXEC));
         if (!file) return errno;
         // As databases do: the kernel then reads nothing ahead.
         ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM);
         std::array<char, kPage> page{};
         const auto offset = static_cast<off_t>(static_cast<std::size_t>(n) * kBlock);
         return error_of(::pread(file.get(), page.data(), page.size(), offset));
       }},
      {"read the beginnings of small files",
       [&](int n) {
         if (n >= 100) return EOVERFLOW;
         const fs::path path = point / ("a small file with a long name " + std::to_string(n));
         const pyram::UniqueFd small(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
         std::array<char, kPage> page{};
         return small ? error_of(::pread(small.get(), page.data(), page.size(), 0)) : errno;
       }},
  };
  std::vector<Action> actions;
  for (const Kind& kind : kinds) actions.push_back(kind.action);
  const Client client(actions);
  Server server(make_image(directory / "tree", directory / "image.sqfs"), point);
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const Kind& kind = kinds[i];
    INFO(kind.name);
    const std::uint64_t before = server.errors();
    const std::uint64_t reads_before = server.reads();
    std::uint64_t errors = 0;
    const int failed = fail_one_after_another([&](int n) {
      const int error = client.call(i, n);
      if (error != 0) ++errors;
      return error;
    });
    // What was answered was not also refused. Of a READ that fails the kernel asks once more, and
    // the program hears nothing.
    const std::uint64_t reads = server.reads() - reads_before;
    if (reads > 0) errors = reads - (static_cast<std::uint64_t>(failed) + 1 - errors);
    CHECK(server.errors() - before == errors);
    std::printf("%s: %d allocations failed, %d requests\n", kind.name, failed,
                static_cast<int>(errors));
  }
}
