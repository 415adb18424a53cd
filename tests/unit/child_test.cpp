#include "support/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>

#include "support/error.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/process.h"
#include "tests/support/catch.h"

using pyram::Child;
using pyram::DescriptorCopy;
using pyram::Error;
using pyram::ExitCode;
using pyram::KeptChildren;
using pyram::make_pipe;
using pyram::Pipe;
using pyram::Program;
using pyram::UniqueFd;

namespace {

// A disposition and a mask as a caller may leave them, for as long as this lives.
class Inherited {
 public:
  explicit Inherited(int ignored, int blocked = 0) : ignored_(ignored) {
    ::signal(ignored, SIG_IGN);
    sigset_t mask;
    ::sigemptyset(&mask);
    if (blocked != 0) ::sigaddset(&mask, blocked);
    ::sigprocmask(SIG_SETMASK, &mask, &before_);
  }
  ~Inherited() {
    ::signal(ignored_, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Inherited(const Inherited&) = delete;
  Inherited& operator=(const Inherited&) = delete;

 private:
  int ignored_;
  sigset_t before_{};
};

bool ignores_children() {
  struct sigaction now {};
  return ::sigaction(SIGCHLD, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

bool has_children() { return ::waitpid(-1, nullptr, WNOHANG) == 0 || errno != ECHILD; }

// What a program wrote to its stdout.
std::string output_of(Program program) {
  Pipe pipe = make_pipe();
  program.descriptors.push_back({pipe.writer.get(), STDOUT_FILENO});
  Child child = Child::start(program);
  pipe.writer.reset();
  std::string output = pyram::read_to_end(pipe.reader.get(), "a test's output");
  CHECK(child.wait() == 0);
  return output;
}

// The signals of a set in /proc/PID/status, as a number.
unsigned long long signals_in(const std::string& status, const std::string& field) {
  const std::size_t at = status.find(field + ":");
  REQUIRE(at != std::string::npos);
  return std::stoull(status.substr(at + field.size() + 1), nullptr, 16);
}

unsigned long long bit(int signal) { return 1ULL << (signal - 1); }

const Program kShowStatus{.arguments = {"/bin/cat", "/proc/self/status"}};

}  // namespace

TEST_CASE("a child's end is known, also where SIGCHLD is ignored, and stays known") {
  for (const int ignored : {SIGUSR1, SIGCHLD}) {
    INFO(ignored);
    const Inherited inherited(ignored);
    Child seven = Child::fork("run", [] { return 7; });
    CHECK(seven.wait() == 7);
    CHECK(seven.wait() == 7);
    CHECK(Child::fork("run", [] { return ::raise(SIGKILL); }).wait() == 128 + SIGKILL);
    CHECK(Child::start({.arguments = {"/bin/sh", "-c", "exit 3"}}).wait() == 3);
    CHECK(pyram::run({{"sh", "-c", "exit 4"}, {}, {}}).status == 4);
  }
}

TEST_CASE("SIGCHLD is ignored again when the child has gone, and for what it becomes") {
  const Inherited inherited(SIGCHLD, SIGUSR1);
  {
    Child child = Child::fork("run", [] { return ignores_children() ? 0 : 1; });
    CHECK_FALSE(ignores_children());
    CHECK(child.wait() == 0);
  }
  CHECK(ignores_children());
  const std::string status = output_of(kShowStatus);
  CHECK((signals_in(status, "SigIgn") & bit(SIGCHLD)) != 0);
  CHECK(signals_in(status, "SigBlk") == bit(SIGUSR1));
  CHECK_THROWS_AS(Child::start({.arguments = {"/nonexistent"}}), Error);
  CHECK(ignores_children());

  Program without = kShowStatus;
  without.resets_signals = true;
  const std::string reset = output_of(without);
  CHECK(signals_in(reset, "SigIgn") == 0);
  CHECK(signals_in(reset, "SigBlk") == 0);
}

TEST_CASE("a child that this process had before is forgotten as the kernel would have") {
  const Inherited inherited(SIGCHLD);
  Pipe pipe = make_pipe();
  const pid_t earlier = ::fork();
  REQUIRE(earlier >= 0);
  if (earlier == 0) {
    pipe.writer.reset();
    char byte = 0;
    ::_exit(static_cast<int>(::read(pipe.reader.get(), &byte, 1)));
  }
  {
    const KeptChildren kept;
    pipe.writer.reset();
    siginfo_t ended{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(earlier), &ended, WEXITED | WNOWAIT) == 0);
  }
  CHECK_FALSE(has_children());
}

TEST_CASE("an exception ends the child, and does not reach the caller's code") {
  const pid_t parent = ::getpid();
  CHECK(Child::fork("run", []() -> int { throw Error(ExitCode::kNoFuse, "no"); }).wait() ==
        static_cast<int>(ExitCode::kNoFuse));
  CHECK(Child::fork("run", []() -> int { throw 1; }).wait() == static_cast<int>(ExitCode::kFailed));
  if (::getpid() != parent) ::_exit(99);
}

TEST_CASE("waiting ends with the child or the time") {
  using std::chrono::hours;
  using std::chrono::milliseconds;
  Pipe pipe = make_pipe();
  Child child = Child::fork("run", [&] {
    pipe.writer.reset();
    char byte = 0;
    return static_cast<int>(::read(pipe.reader.get(), &byte, 1));
  });
  CHECK_FALSE(child.wait_for(milliseconds(0)));
  CHECK_FALSE(child.wait_for(milliseconds(1)));
  pipe.writer.reset();
  CHECK(child.wait_for(hours(1)));
  CHECK(child.wait() == 0);
}

TEST_CASE("a child that nobody waits for is ended") {
  Pipe pipe = make_pipe();
  {
    const Child child = Child::fork("run", [] {
      for (;;) ::pause();
      return 0;
    });
    Child moved = Child::fork("run", [] {
      for (;;) ::pause();
      return 0;
    });
    const Child owner(std::move(moved));
    pipe.writer.reset();
  }
  CHECK_FALSE(has_children());
  // The children had the other end.
  CHECK(pyram::read_to_end(pipe.reader.get(), "a pipe").empty());
}

TEST_CASE("a program gets the descriptors that it is to have, whatever their numbers are") {
  Pipe first = make_pipe();
  Pipe second = make_pipe();
  // Each goes where the other one is.
  const Program program{
      .arguments = {"/bin/sh", "-c",
                    "echo one >&" + std::to_string(second.writer.get()) + "; echo two >&" +
                        std::to_string(first.writer.get()) + "; pwd >&2; read line; echo $?$line"},
      .environment = std::vector<std::string>{},
      .directory = "/usr",
      .descriptors = {{first.writer.get(), second.writer.get()},
                      {second.writer.get(), first.writer.get()},
                      {second.writer.get(), STDERR_FILENO},
                      {DescriptorCopy::kNull, STDIN_FILENO}}};
  CHECK(output_of(program) == "1\n");
  first.writer.reset();
  second.writer.reset();
  CHECK(pyram::read_to_end(first.reader.get(), "a pipe") == "one\n");
  CHECK(pyram::read_to_end(second.reader.get(), "a pipe") == "two\n/usr\n");
}

TEST_CASE("a program gets no other descriptor where that is asked for") {
  const UniqueFd open(::open("/dev/null", O_RDONLY));  // NOLINT(android-cloexec-open): to inherit.
  REQUIRE(open);
  const std::string path = "/proc/self/fd/" + std::to_string(open.get());
  Program program{.arguments = {"/bin/sh", "-c", "test -e " + path + "; echo $?"}};
  CHECK(output_of(program) == "0\n");
  program.closes_others = true;
  CHECK(output_of(program) == "1\n");
}

TEST_CASE("a child tells the signal that ended it, and its exit code otherwise") {
  Child killed = Child::fork("start a process", [] {
    ::pause();
    return 0;
  });
  CHECK(killed.ended_by() == 0);
  killed.signal(SIGKILL);
  CHECK(killed.wait() == 128 + SIGKILL);
  CHECK(killed.ended_by() == SIGKILL);
  // What a signal's end looks like, but is none.
  Child ended = Child::fork("start a process", [] { return 128 + SIGTERM; });
  CHECK(ended.wait() == 128 + SIGTERM);
  CHECK(ended.ended_by() == 0);
}
