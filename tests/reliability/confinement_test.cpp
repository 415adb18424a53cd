// A worker that is made to misbehave is refused what it tries.
#include "fusefs/serve/confinement.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using namespace pyram::test;

namespace {

// Runs `action` in a child, confined; what it returns (0 to 99), or 100 + the signal that ended it.
int confined(const std::function<int()>& action) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    static_cast<void>(pyram::confine({}));
    ::_exit(action());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

// The errno of a call that should fail; 0 where it doesn't.
int error_of(long result) { return result < 0 ? errno : 0; }

struct Attempt {
  const char* name;
  std::function<long()> make;
};

}  // namespace

TEST_CASE("a confined process is refused everything that serving does not need") {
  PYRAM_SKIP_WITH_SANITIZERS("such a worker is not confined");
  const TemporaryDirectory directory;
  const std::string file = directory / "file";
  pyram::write_file(file, "text");
  static const std::array<const char*, 2> kArguments = {"/bin/true", nullptr};
  const std::vector<Attempt> attempts = {
      {"open a file", [&] { return ::open(file.c_str(), O_RDONLY); }},
      {"open /dev/null", [] { return ::open("/dev/null", O_RDWR); }},
      {"create a file", [&] { return ::open((file + "2").c_str(), O_WRONLY | O_CREAT, 0600); }},
      {"open by openat2", [&] { return ::syscall(SYS_openat2, AT_FDCWD, file.c_str(), 0, 0); }},
      {"remove a file", [&] { return ::unlink(file.c_str()); }},
      {"rename a file", [&] { return ::rename(file.c_str(), (file + "3").c_str()); }},
      {"change a mode", [&] { return ::chmod(file.c_str(), 0777); }},
      {"look at a file",
       [&] {
         struct stat s {};
         return ::stat(file.c_str(), &s);
       }},
      {"look at a file, as if by a descriptor",
       [&] {
         struct stat s {};
         return ::fstatat(AT_FDCWD, file.c_str(), &s, AT_EMPTY_PATH);
       }},
      {"make a directory", [&] { return ::mkdir((file + "4").c_str(), 0700); }},
      {"make a socket", [] { return ::socket(AF_INET, SOCK_STREAM, 0); }},
      {"make a local socket", [] { return ::socket(AF_UNIX, SOCK_STREAM, 0); }},
      {"make a pipe",
       [] {
         std::array<int, 2> ends{};
         return ::pipe(ends.data());
       }},
      {"exec", [] { return ::execv(kArguments[0], const_cast<char* const*>(kArguments.data())); }},
      {"fork", [] { return ::syscall(SYS_fork); }},
      {"fork by clone", [] { return ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
      {"trace another process", [] { return ::ptrace(PTRACE_ATTACH, ::getppid(), 0, 0); }},
      {"read another's memory",
       [] { return ::syscall(SYS_process_vm_readv, ::getppid(), nullptr, 0, nullptr, 0, 0); }},
      {"kill another process", [] { return ::kill(::getppid(), 0); }},
      {"mount", [] { return ::mount("none", "/", "tmpfs", 0, nullptr); }},
      {"unmount", [] { return ::umount2("/", MNT_DETACH); }},
      {"a new namespace", [] { return ::syscall(SYS_unshare, CLONE_NEWUSER); }},
      {"make code",
       [] {
         void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return memory == MAP_FAILED ? -1L : 0L;
       }},
      {"become somebody", [] { return ::setuid(0); }},
      {"load a program into the kernel", [] { return ::syscall(SYS_bpf, 0, nullptr, 0); }},
      {"io_uring", [] { return ::syscall(SYS_io_uring_setup, 1, nullptr); }},
      {"open by handle", [] { return ::syscall(SYS_open_by_handle_at, 0, nullptr, 0); }},
      {"call a device", [] { return ::syscall(SYS_ioctl, 0, 0x5401, nullptr); }},
  };
  for (const Attempt& attempt : attempts) {
    INFO(attempt.name);
    CHECK(confined([&] { return error_of(attempt.make()); }) == EPERM);
  }
  CHECK(pyram::read_file(file) == "text");
}

TEST_CASE("Landlock alone keeps files away, and no capability is left") {
  PYRAM_SKIP_WITH_SANITIZERS("such a worker is not confined");
  const std::string held = [] {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const std::string text = pyram::confine({});
      [[maybe_unused]] const ssize_t n = ::write(ends[1], text.data(), text.size());
      ::_exit(0);
    }
    ::close(ends[1]);
    const pyram::UniqueFd output(ends[0]);
    ::waitpid(child, nullptr, 0);
    return pyram::read_to_end(output.get(), "a pipe");
  }();
  // "landlock" is what the kernel of this machine may lack.
  for (const char* part : {"limits", "no_core", "capabilities", "no_new_privs", "seccomp"}) {
    INFO(held);
    CHECK(held.find(part) != std::string::npos);
  }
}

TEST_CASE("a confined process can do what serving needs") {
  PYRAM_SKIP_WITH_SANITIZERS("such a worker is not confined");
  const TemporaryDirectory directory;
  pyram::write_file(directory / "file", std::string(100'000, 'x'));
  const pyram::UniqueFd file(::open((directory / "file").c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(confined([&] {
          std::vector<std::byte> bytes(100'000);
          if (pyram::pread_full(file.get(), bytes, 0) != bytes.size()) return 1;
          std::size_t of_thread = 0;
          // Large enough to be mapped and given back.
          std::thread([&] {
            of_thread = std::vector<char>(std::size_t{8} << 20, 'y').size();
          }).join();
          if (of_thread == 0) return 2;
          struct stat status {};
          if (::syscall(SYS_fstat, file.get(), &status) != 0 || status.st_size != 100'000) return 3;
          return 0;
        }) == 0);
  // Ending by itself is allowed too, and leaves no core.
  CHECK(confined([]() -> int {
          std::signal(SIGABRT, SIG_DFL);  // Not the test program's handler.
          std::abort();
        }) == 100 + SIGABRT);
}

TEST_CASE("a worker is confined, its supervisor can still unmount") {
  PYRAM_SKIP_WITH_SANITIZERS("such a worker is not confined");
  const TemporaryDirectory directory;
  pyram::write_file(directory / "file", "text");
  fs::create_directory(directory / "tree");
  pyram::write_file(directory / "tree/file", "text");
  Mount mount(make_image(directory / "tree", directory / "image.sqfs"));
  const std::string status =
      pyram::read_file("/proc/" + std::to_string(mount.worker()) + "/status");
  for (const char* line : {"CapEff:\t0000000000000000\n", "CapPrm:\t0000000000000000\n",
                           "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"}) {
    if (std::string(line).starts_with("CapBnd") && !running_as_root()) continue;
    INFO(line);
    CHECK(status.find(line) != std::string::npos);
  }
  const std::string limits =
      pyram::read_file("/proc/" + std::to_string(mount.worker()) + "/limits");
  CHECK(limits.find("Max open files            64                   64") != std::string::npos);
  CHECK(mount.status().at("confinement").find("seccomp") != std::string::npos);
  mount.unmount();
}
