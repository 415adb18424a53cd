// What a caller leaves about signals: it is the script's, and in nobody's way.
#include <csignal>
#include <fstream>

#include "tests/launcher/scene.h"
#include "tests/support/catch.h"

using namespace pyram;
using namespace pyram::test;

namespace {

// `command`, started by a program that ignores SIGCHLD.
Command with_children_ignored(Command command, const std::vector<std::string>& more = {}) {
  std::vector<std::string> wrapper{"env", "--ignore-signal=CHLD"};
  wrapper.insert(wrapper.end(), more.begin(), more.end());
  command.arguments.insert(command.arguments.begin(), wrapper.begin(), wrapper.end());
  return command;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

}  // namespace

TEST_CASE("a script inherits its parent's signal mask and dispositions, however it starts") {
  PYRAM_SKIP_WITH_TSAN("its thread keeps a program from making a user namespace");
  const Scene scene;
  // SIGPIPE and SIGXFSZ are ignored by every Python.
  const std::vector<std::string> script{
      "-c",
      "import signal; fields = dict(l.split(':', 1) for l in open('/proc/self/status')); "
      "print(*sorted({signal.SIGCHLD, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, "
      "signal.SIGUSR1} & {n for n in range(1, 64) if int(fields['SigIgn'], 16) >> n - 1 & 1})); "
      "print(*[n for n in range(1, 65) if int(fields['SigBlk'], 16) >> n - 1 & 1])"};
  const std::string expected = std::to_string(SIGHUP) + ' ' + std::to_string(SIGCHLD) + '\n' +
                               std::to_string(SIGUSR2) + ' ' + std::to_string(SIGCHLD) + '\n';
  for (const char* backend : {"fuse", "userns", "extract"}) {
    INFO(backend);
    Command command = scene.command(Who::kSelf, script, {std::string("PYRAM_BACKEND=") + backend});
    command = with_children_ignored(
        command, {"--ignore-signal=HUP", "--block-signal=USR2", "--block-signal=CHLD"});
    for (const char* temperature : {"cold", "warm"}) {
      INFO(temperature);
      const Outcome outcome = run(command);
      INFO(outcome.errors);
      CHECK(outcome.output == expected);
    }
  }
}

TEST_CASE("where SIGCHLD is ignored, a failure is the same one as elsewhere") {
  const Scene scene;
  std::ofstream(scene.path("text.sqfs")) << "This is no image.\n";
  const Command command =
      scene.command(Who::kSelf, {"--image", scene.path("text.sqfs").native(), "x"});
  const Outcome expected = run(command);
  const Outcome outcome = run(with_children_ignored(command));
  CHECK(outcome.errors == expected.errors);
  CHECK(outcome.status == expected.status);
  CHECK(outcome.status == static_cast<int>(ExitCode::kLauncherFailed));
}

TEST_CASE("where SIGCHLD is ignored, the interpreter's own options and --toram work") {
  const Scene scene;
  const Outcome version = run(with_children_ignored(scene.command(Who::kSelf, {"--version"})));
  CHECK(version.ok());
  CHECK(version.output.find("PyPy") != std::string::npos);
  const Outcome script = run(
      with_children_ignored(scene.command(Who::kSelf, {"--toram", "-c", "import os; print(1)"})));
  CHECK(script.output == "1\n");
}

TEST_CASE("where SIGCHLD is ignored, the doctor finds the same as elsewhere") {
  PYRAM_SKIP_WITH_TSAN("its thread keeps a program from making a user namespace");
  const Scene scene;
  const Command command = scene.command(Who::kSelf, {"--pyram-doctor"});
  // How much memory and disk is free changes.
  const auto ways = [](const Outcome& outcome) {
    INFO(outcome.output << outcome.errors);
    CHECK(outcome.ok());
    const std::size_t begin = outcome.output.find("\nsystem ");
    return outcome.output.substr(begin, outcome.output.find("\nextract ") - begin);
  };
  const std::string expected = ways(run(command));
  CHECK(expected.find("userns   works") != std::string::npos);
  CHECK(ways(run(with_children_ignored(command))) == expected);
  CHECK(scene.mounts().empty());
  CHECK(std::filesystem::is_empty(scene.runtime(Who::kSelf)));
}

TEST_CASE("a signal handler may put into the queue that the program waits at") {
  const Scene scene;
  // With PyPy's own SimpleQueue, the handler waits for ever for a lock that get() holds.
  const Outcome outcome = scene.start(Who::kSelf, {"-c", R"(
import faulthandler, itertools, queue, signal
faulthandler.dump_traceback_later(60, exit=True)
signals, numbers = queue.SimpleQueue(), itertools.count()
signal.signal(signal.SIGALRM, lambda *_: signals.put(next(numbers)))
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
got = []
while len(got) < 2000:
    try:
        got.append(signals.get(timeout=1.0))
    except queue.Empty:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(set(got)))
)"});
  INFO(outcome.errors);
  CHECK(outcome.output == "2000\n");
}

TEST_CASE("threads that wait at a queue get each item once, and none is left asleep") {
  const Scene scene;
  const Outcome outcome = scene.start(Who::kSelf, {"-c", R"(
import faulthandler, queue, threading
faulthandler.dump_traceback_later(120, exit=True)
given, taken = queue.SimpleQueue(), queue.SimpleQueue()
def take(timeout):
    while True:
        try:
            item = given.get(timeout=timeout)
        except queue.Empty:
            continue
        if item is None:
            break
        taken.put(item)
threads = [threading.Thread(target=take, args=(timeout,)) for timeout in (None, None, 0.0001, 0)]
for thread in threads:
    thread.start()
for number in range(5000):
    given.put(number)
    if number % 3 == 0:
        taken.put(taken.get())
for thread in threads:
    given.put(None)
for thread in threads:
    thread.join()
print(sorted(taken.get(False) for _ in range(5000)) == list(range(5000)), taken.empty(), given.empty())
)"});
  INFO(outcome.errors);
  CHECK(outcome.output == "True True True\n");
}

TEST_CASE("the doctor reports once, also where a trial fails in its child") {
  if (!running_as_root())
    PYRAM_SKIP("only root has a working directory that a namespace takes away");
  const Scene scene;
  // In a user namespace root has no rights over other users' files: there is no way back to this
  // directory after joining.
  Command command = scene.command(Who::kSelf, {"--pyram-doctor"});
  command.directory = scene.path("closed");
  std::filesystem::create_directory(*command.directory);
  std::filesystem::permissions(*command.directory, std::filesystem::perms::owner_all);
  give_to_plain_user(*command.directory);
  const Outcome outcome = run(command);
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.ok());
  for (const char* way : {"\nfuse ", "\nuserns ", "\nextract "}) {
    CHECK(count(outcome.output, way) == 1);
  }
  CHECK(outcome.output.find("\nuserns   fails") != std::string::npos);
  CHECK(scene.mounts().empty());
  CHECK(std::filesystem::is_empty(scene.runtime(Who::kSelf)));
}
