// The ways to come by a mount, and what may happen to one.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "support/image_layout.h"
#include "support/io.h"
#include "tests/launcher/scene.h"
#include "tests/support/catch.h"

using namespace pyram;
using namespace pyram::test;

namespace {

const std::vector<std::string> kPrefix{"-c", "import sys; print(sys.prefix)"};

std::string prefix_of(const Outcome& outcome) {
  INFO(outcome.errors);
  REQUIRE(outcome.ok());
  return outcome.output.substr(0, outcome.output.find('\n'));
}

// A daemon may be more than one process; they share a session.
std::size_t daemon_count(const Scene& scene) {
  std::set<pid_t> sessions;
  for (const pid_t pid : scene.daemons()) sessions.insert(::getsid(pid));
  return sessions.size();
}

// `sh -c TEXT` as root in a mount namespace in which there is no /dev/fuse, and /dev/shm has
// `shm_size`. "$0" is pyram.
Outcome without_fuse(const Scene& scene, const std::string& shm_size, const std::string& text,
                     const std::vector<std::string>& extra) {
  const std::string dev = scene.path("dev").native();
  std::filesystem::create_directory(dev);
  std::string setup = "set -e; mount -t tmpfs -o mode=755 none " + dev + "; ";
  for (const std::string name : {"null", "zero", "urandom", "random", "tty"}) {
    setup +=
        "touch " + dev + "/" + name + "; mount --bind /dev/" + name + " " + dev + "/" + name + "; ";
  }
  setup += "mkdir " + dev + "/shm; mount -t tmpfs -o mode=1777,size=" + shm_size + " none " + dev +
           "/shm; mount --rbind " + dev + " /dev; set +e; ";
  Command command = scene.command(Who::kSelf, {}, extra);
  command.arguments = {"unshare", "--mount", "--propagation", "private",
                       "sh",      "-c",      setup + text,    scene.pyram()};
  return run(command);
}

}  // namespace

TEST_CASE("two hundred starts at once make one mount") {
  const Scene scene;
  const Outcome outcome = scene.shell(Who::kPlain,
                                      "i=0; while [ $i -lt 200 ]; do i=$((i+1)); "
                                      "{ \"$0\" -c pass && echo good || echo bad; } & done; wait");
  INFO(outcome.errors);
  CHECK(outcome.output.find("bad") == std::string::npos);
  CHECK(outcome.output.size() == 200 * std::string("good\n").size());
  CHECK(scene.mounts().size() == 1);
  CHECK(daemon_count(scene) == 1);
}

TEST_CASE("a second start finds the mount of the first") {
  const Scene scene;
  const Who who = GENERATE(Who::kSelf, Who::kPlain);
  const std::string first = prefix_of(scene.start(who, kPrefix));
  const std::vector<pid_t> daemons = scene.daemons();
  CHECK(first.starts_with(scene.runtime(who).native()));
  CHECK(prefix_of(scene.start(who, kPrefix)) == first);
  CHECK(prefix_of(scene.start(who, kPrefix, {"PYRAM_BACKEND=user"})) == first);
  CHECK(scene.daemons() == daemons);
}

TEST_CASE("an image may lie on a block device") {
  if (!running_as_root()) PYRAM_SKIP("only root makes loop devices");
  const Scene scene;
  const Outcome made =
      run({.arguments = {"losetup", "--read-only", "--find", "--show", scene.image()}});
  if (!made.ok()) PYRAM_SKIP("no loop device can be made here");
  const std::string device = made.output.substr(0, made.output.find('\n'));
  const Outcome outcome = scene.start(Who::kSelf, {"--image", device, "-c", "print(1)"});
  // It stays for as long as it is mounted.
  run_or_throw({.arguments = {"losetup", "--detach", device}}, ExitCode::kFailed,
               "detach a loop device");
  INFO(outcome.errors);
  CHECK(outcome.output == "1\n");
  CHECK(scene.mounts().size() == 1);
}

TEST_CASE("a dead daemon's mount is replaced") {
  const Scene scene;
  const Who who = GENERATE(Who::kSelf, Who::kPlain);
  const std::string first = prefix_of(scene.start(who, kPrefix));
  // A daemon that somebody looks after may come back: then there is nothing to replace.
  for (std::vector<pid_t> pids = scene.daemons(); !pids.empty(); pids = scene.daemons()) {
    for (const pid_t pid : pids) kill_and_wait(pid);
  }
  CHECK(prefix_of(scene.start(who, kPrefix)) == first);
  CHECK(scene.mounts().size() == 1);
  CHECK(daemon_count(scene) == 1);
}

TEST_CASE("the idle unmount never wins against a start") {
  const Scene scene;
  // Each start begins about when the mount's idle second ends.
  const Outcome outcome =
      scene.shell(Who::kSelf,
                  "for pause in 0.90 1.00 1.02 1.04 1.06 1.08 1.10 1.20; do "
                  "\"$0\" -c 'import json; print(1)' || exit; sleep $pause; done",
                  {"PYRAM_IDLE_TIMEOUT=1"});
  INFO(outcome.errors);
  CHECK(outcome.ok());
  CHECK(outcome.output.size() == 16);
}

TEST_CASE("a script keeps its mount, however long it doesn't use it") {
  const Scene scene;
  const Outcome outcome =
      scene.start(Who::kPlain, {"-c", "import time; time.sleep(3); import decimal; print(1)"},
                  {"PYRAM_IDLE_TIMEOUT=1"});
  INFO(outcome.errors);
  CHECK(outcome.output == "1\n");
}

TEST_CASE("a changed image gets a mount of its own, and old scripts keep theirs") {
  const Scene scene;
  // The script replaces the image, starts another script, and then goes on importing.
  const std::string script =
      "import os, shutil, subprocess, sys\n"
      "image = os.environ['PYRAM_IMAGE']\n"
      "shutil.copyfile(image, image + '.new')\n"
      "os.rename(image + '.new', image)\n"
      "new = subprocess.check_output([sys.executable, '-c', 'import sys; print(sys.prefix)'])\n"
      "import decimal\n"
      "print(new.decode().strip() != sys.prefix, decimal.__file__.startswith(sys.prefix))\n";
  const Outcome outcome = scene.start(Who::kSelf, {"-c", script});
  INFO(outcome.errors);
  CHECK(outcome.output == "True True\n");
  CHECK(scene.mounts().size() == 2);
}

TEST_CASE("root's mount for everybody is used before any other") {
  if (!running_as_root()) PYRAM_SKIP("only root can mount for everybody");
  const Scene scene;
  CHECK(scene.start(Who::kPlain, kPrefix, {"PYRAM_BACKEND=system"}).status == 125);
  const std::string everybody = scene.path("everybody");
  std::filesystem::create_directory(everybody);
  run_or_throw({{scene.pyram_mount(), "-o", "allow_other", scene.image(), everybody}, {}, {}},
               ExitCode::kFailed, "mount");
  const std::string backend = GENERATE("PYRAM_BACKEND", "PYRAM_BACKEND=system");
  CHECK(prefix_of(scene.start(Who::kPlain, kPrefix, {backend})) == everybody);
  // Where nothing may be mounted and nothing written.
  Command hardened = scene.command(Who::kPlain, kPrefix, {"XDG_RUNTIME_DIR=/nonexistent", backend});
  hardened.arguments.insert(hardened.arguments.begin(), {"setpriv", "--no-new-privs"});
  CHECK(prefix_of(run(hardened)) == everybody);
  CHECK(scene.mounts().size() == 1);
}

TEST_CASE("root's own mounts serve a program that gives up being root") {
  if (!running_as_root()) PYRAM_SKIP("needs root");
  const Scene scene;
  const Outcome outcome =
      scene.start(Who::kSelf,
                  {"-c",
                   "import os, sys; os.setgroups([]); os.setgid(61234); os.setuid(61234); "
                   "import decimal; print(sys.prefix)"},
                  {"XDG_RUNTIME_DIR"});
  const std::string prefix = prefix_of(outcome);
  CHECK(prefix.starts_with("/run/pyram/"));
  CHECK(run({{scene.pyram_mount(), "--unmount", prefix}, {}, {}}).ok());
}

TEST_CASE("each way can be forced") {
  const Scene scene;
  const Who who = GENERATE(Who::kSelf, Who::kPlain);
  CHECK(scene.start(who, kPrefix, {"PYRAM_BACKEND=user"}).status == 125);
  CHECK(prefix_of(scene.start(who, kPrefix, {"PYRAM_BACKEND=fuse"}))
            .starts_with(scene.runtime(who).native()));
  const Outcome extracted = scene.start(who, kPrefix, {"PYRAM_BACKEND=extract"});
  CHECK(prefix_of(extracted).ends_with(".ram"));
  CHECK(extracted.errors.find("unpacked") != std::string::npos);
  const Outcome again = scene.start(who, kPrefix, {"PYRAM_BACKEND=extract"});
  CHECK(prefix_of(again) == prefix_of(extracted));
  CHECK(again.errors.empty());
  CHECK(scene.mounts().size() == 1);
}

TEST_CASE("only root mounts directly") {
  const Scene scene;
  if (running_as_root()) {
    CHECK(scene.start(Who::kSelf, kPrefix, {"PYRAM_BACKEND=root"}).ok());
  }
  const Outcome refused = scene.start(Who::kPlain, kPrefix, {"PYRAM_BACKEND=root"});
  CHECK(refused.status == 125);
  CHECK(refused.errors.find("only root may") != std::string::npos);
}

TEST_CASE("in a user namespace all scripts share one mount and are who they were") {
  const Scene scene;
  const std::string text = "cd /usr/share && \"$0\" -c '" +
                           std::string(
                               "import os; print(os.getuid(), os.getgid(), os.getcwd(), "
                               "os.readlink(\"/proc/self/ns/mnt\"))") +
                           "'";
  const std::vector<std::string> backend{"PYRAM_BACKEND=userns"};
  const Outcome first = scene.shell(Who::kPlain, text, backend);
  INFO(first.errors);
  if (first.errors.find("make a user namespace") != std::string::npos) {
    PYRAM_SKIP("user namespaces are not allowed here");
  }
  REQUIRE(first.ok());
  const std::string id = std::to_string(running_as_root() ? kPlainUser : ::getuid());
  CHECK(first.output.starts_with(id + " " + id + " /usr/share mnt:"));
  CHECK(scene.shell(Who::kPlain, text, backend).output == first.output);
  CHECK(daemon_count(scene) == 1);
  CHECK(scene.mounts().empty());

  // A script that starts another one, from inside.
  const Outcome nested =
      scene.start(Who::kPlain,
                  {"-c",
                   "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', "
                   "'import sys; print(sys.prefix)']))"},
                  backend);
  CHECK(prefix_of(nested).ends_with(".ns"));
  CHECK(daemon_count(scene) == 1);

  for (const pid_t pid : scene.daemons()) kill_and_wait(pid);
  CHECK(prefix_of(scene.start(Who::kPlain, kPrefix, backend)).ends_with(".ns"));
}

TEST_CASE("where fusermount3 is of no use, a user namespace is taken") {
  const Scene scene;
  Command command = scene.command(Who::kPlain, kPrefix);
  command.arguments.insert(command.arguments.begin(), {"setpriv", "--no-new-privs"});
  const Outcome outcome = run(command);
  const std::string prefix = prefix_of(outcome);
  CHECK((prefix.ends_with(".ns") || prefix.ends_with(".ram")));
}

TEST_CASE("what was unpacked in part and left is unpacked anew") {
  const Scene scene;
  const std::vector<std::string> backend{"PYRAM_BACKEND=extract"};
  const std::filesystem::path prefix = prefix_of(scene.start(Who::kSelf, kPrefix, backend));
  const std::filesystem::path mark = prefix / layout::kUnfinished;
  // Until then it is being written, and is used as it is.
  while (std::filesystem::exists(mark)) {
    CHECK(scene.start(Who::kSelf, kPrefix, backend).errors.empty());
  }
  const std::filesystem::path file = prefix / "lib/pypy3.11/this.py";
  const auto size = std::filesystem::file_size(file);
  std::filesystem::resize_file(file, 0);
  write_file(mark, "");
  const Outcome again = scene.start(Who::kSelf, kPrefix, backend);
  INFO(again.errors);
  CHECK(prefix_of(again) == prefix);
  CHECK(again.errors.find("unpacked") != std::string::npos);
  CHECK(std::filesystem::file_size(file) == size);
  CHECK_FALSE(std::filesystem::exists(mark));
}

TEST_CASE("without FUSE the image is unpacked into RAM, which is said once") {
  if (!running_as_root()) PYRAM_SKIP("only root can hide /dev/fuse");
  const Scene scene;
  const Outcome outcome =
      without_fuse(scene, "1g",
                   "for i in 1 2; do setpriv --reuid=61234 --regid=61234 --clear-groups "
                   "\"$0\" -c 'import sys; print(sys.prefix)'; done",
                   {"XDG_RUNTIME_DIR=" + scene.runtime_parent(Who::kPlain).native()});
  INFO(outcome.errors);
  CHECK(outcome.output.starts_with("/dev/shm/pyram-61234/"));
  const std::size_t half = outcome.output.size() / 2;
  CHECK(outcome.output.substr(0, half) == outcome.output.substr(half));
  CHECK(outcome.errors.find("into RAM") != std::string::npos);
  CHECK(outcome.errors.find('\n') == outcome.errors.size() - 1);
}

TEST_CASE("RAM that is too small is not filled") {
  if (!running_as_root()) PYRAM_SKIP("only root can hide /dev/fuse");
  const Scene scene;
  const Outcome outcome =
      without_fuse(scene, "20m", "\"$0\" -c 'import sys; print(sys.prefix)'; ls -A /dev/shm/*", {});
  INFO(outcome.errors);
  CHECK(outcome.output.starts_with(scene.runtime(Who::kSelf).native()));
  CHECK(outcome.errors.find("on disk") != std::string::npos);
}

TEST_CASE("with --toram every page is in memory before the script starts") {
  // Linux tells others nothing, or that all of it is.
  if (!running_as_root()) PYRAM_SKIP("what of root's files is in memory is told to root alone");
  const Scene scene;
  const Outcome outcome = scene.start(
      Who::kSelf,
      {"--toram", "-c",
       "import os, subprocess, sys; name = sys.prefix + "
       "'/local/lib/pypy3.11/dist-packages/django'; "
       "files = [os.path.join(d, f) for d, _, fs in os.walk(name) for f in fs]; "
       "text = subprocess.check_output(['fincore', '-b', '-n', '-r', '-o', 'RES,SIZE', *files]); "
       "rows = [tuple(map(int, row.split())) for row in text.splitlines()]; "
       "print(len(rows) > 500, [row for row in rows if row[0] < row[1]])"});
  INFO(outcome.errors);
  CHECK(outcome.output == "True []\n");
  CHECK(outcome.errors.empty());
}

TEST_CASE("an image that was unpacked for good is a directory, and nothing is mounted") {
  const Scene scene;
  const std::filesystem::path images = scene.path("data") / "pyram/images";
  std::filesystem::create_directories(images);
  std::filesystem::create_directory_symlink(unpacked_image(), images / "files");
  const std::string root = std::filesystem::canonical(unpacked_image()).native();
  const std::string data = "XDG_DATA_HOME=" + scene.path("data").native();

  CHECK(prefix_of(scene.start(Who::kSelf, kPrefix, {"PYRAM_IMAGE=" + root})) == root);
  CHECK(prefix_of(scene.start(Who::kSelf, kPrefix, {"PYRAM_IMAGE=files", data})) == root);
  CHECK(scene.start(Who::kSelf, {"--pyram-doctor"}, {"PYRAM_IMAGE=files", data}).ok());
  // What is found is a file, where there is one of that name as well.
  link_or_copy(scene.image(), images / "files.sqfs");
  CHECK(prefix_of(scene.start(Who::kSelf, kPrefix, {"PYRAM_IMAGE=files", data})) != root);
  std::filesystem::remove(images / "files.sqfs");

  const Outcome none = scene.start(Who::kSelf, kPrefix, {"PYRAM_IMAGE=" + images.native()});
  CHECK(none.status == 125);
  CHECK(none.errors.find("has no libexec/pyram/loader/pypy3") != std::string::npos);
  const Outcome other = scene.start(Who::kSelf, kPrefix, {"PYRAM_IMAGE=.", data});
  CHECK(other.errors.find("no image '.'") != std::string::npos);
}

TEST_CASE("the doctor tries each way and leaves nothing behind") {
  const Scene scene;
  const Who who = GENERATE(Who::kSelf, Who::kPlain);
  const Outcome outcome = scene.start(who, {"--pyram-doctor"});
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.ok());
  for (const char* way :
       {"\nsystem ", "\nuser ", "\nfuse ", "\nroot ", "\nuserns ", "\nextract "}) {
    CHECK(outcome.output.find(way) != std::string::npos);
  }
  CHECK(outcome.output.find("\nfuse     works") != std::string::npos);
  CHECK(outcome.output.starts_with("Pyram works here: a start mounts the image\n"));
  CHECK(scene.mounts().empty());
  CHECK(std::filesystem::is_empty(scene.runtime(who)));
}

TEST_CASE("the doctor says what would make a way work") {
  if (!running_as_root()) PYRAM_SKIP("only root can hide /dev/fuse");
  const Scene scene;
  const Outcome outcome = without_fuse(scene, "1g", "\"$0\" --pyram-doctor", {});
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.output.find("there is no /dev/fuse") != std::string::npos);
  CHECK(outcome.output.find("\nextract  works") != std::string::npos);
  CHECK(outcome.output.starts_with("Pyram works here: a start unpacks the image into RAM"));
}

TEST_CASE("the doctor answers programs, and colours its words on a terminal only") {
  const Scene scene;
  const Outcome json = scene.shell(
      Who::kSelf,
      "\"$0\" --pyram-doctor --json >\"$HOME/report\"; "
      "\"$0\" -c 'import json, sys; r = json.load(open(sys.argv[1])); w = r[\"ways\"][2]; "
      "print(r[\"works\"], len(r[\"ways\"]), w[\"way\"], w[\"works\"])' \"$HOME/report\"",
      {"HOME=" + scene.path("").native()});
  INFO(json.output << json.errors);
  CHECK(json.output == "True 6 fuse True\n");
  const auto on_terminal = [&](const char* variables) {
    return scene.shell(Who::kSelf,
                       std::string(variables) + " script -qec \"$0 --pyram-doctor\" /dev/null");
  };
  CHECK(scene.start(Who::kSelf, {"--pyram-doctor"}).output.find('\x1b') == std::string::npos);
  CHECK(on_terminal("TERM=xterm").output.find("\x1b[32mPyram works here") != std::string::npos);
  CHECK(on_terminal("TERM=xterm NO_COLOR=1").output.find('\x1b') == std::string::npos);
  CHECK(on_terminal("TERM=dumb").output.find('\x1b') == std::string::npos);
  const Outcome refused = scene.start(Who::kSelf, {"--pyram-doctor", "--jsno"});
  CHECK(refused.status == 125);
  CHECK(refused.errors.find("it takes --json") != std::string::npos);
}

TEST_CASE("the doctor works without an image") {
  const Scene scene;
  const Who who = GENERATE(Who::kSelf, Who::kPlain);
  const Outcome outcome = scene.start(who, {"--image", "/nosuch.sqfs", "--pyram-doctor"});
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.status == 125);
  CHECK(outcome.errors.empty());
  CHECK(outcome.output.starts_with(
      "Pyram does not work here: cannot open the image '/nosuch.sqfs': No such file"));
  CHECK(outcome.output.find("\nfuse     open   nothing is in the way") != std::string::npos);
  CHECK(std::filesystem::is_empty(scene.runtime(who)));
}
