// One start: what pyram is given reaches PyPy as it is, and what PyPy says comes back.
#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>

#include "support/image_layout.h"
#include "tests/launcher/scene.h"
#include "tests/support/catch.h"

using namespace pyram;
using namespace pyram::test;

namespace {

constexpr int kLauncherFailed = static_cast<int>(ExitCode::kLauncherFailed);

// One line, from pyram, about `subject`.
void check_one_line(const Outcome& outcome, const std::string& subject) {
  INFO(outcome.errors);
  CHECK(outcome.status == kLauncherFailed);
  CHECK(outcome.errors.starts_with("pyram: "));
  CHECK(outcome.errors.find('\n') == outcome.errors.size() - 1);
  CHECK(outcome.errors.find(subject) != std::string::npos);
  CHECK(outcome.output.empty());
}

}  // namespace

TEST_CASE("the default image runs, for root and for a plain user, in an empty environment too") {
  const Scene scene;
  const Who who = GENERATE(Who::kSelf, Who::kPlain);
  const Outcome outcome =
      scene.start(who, {"-c", "import django, pymysql, ssl, sqlite3, sys; print(sys.version)"});
  INFO(outcome.errors);
  CHECK(outcome.ok());
  CHECK(outcome.output.find("PyPy") != std::string::npos);
  CHECK(outcome.errors.empty());

  const Outcome bare =
      scene.shell(who, "cd / && env -i \"$0\" --image " + scene.image() + " -c 'print(6 * 7)'");
  INFO(bare.errors);
  CHECK(bare.output == "42\n");
  // That used the run-time directory of no variable.
  static_cast<void>(scene.shell(who,
                                "for m in /run/pyram/default-* /tmp/pyram-*/default-*; do "
                                "grep -q \"^" +
                                    scene.image() +
                                    " $m \" /proc/mounts && "
                                    "fusermount3 -u $m; done"));
}

TEST_CASE("pyram speaks for itself") {
  const Scene scene;
  CHECK(scene.start(Who::kSelf, {"--pyram-version"}).output == "Pyram " PYRAM_VERSION "\n");
  CHECK(scene.start(Who::kSelf, {"--pyram-help"}).output.find("--toram") != std::string::npos);
  CHECK(scene.mounts().empty());

  const Outcome version = scene.start(Who::kSelf, {"--version"});
  CHECK(version.ok());
  CHECK(version.output.starts_with("Python 3."));
  CHECK(version.output.find("\nPyram " PYRAM_VERSION) != std::string::npos);
  const Outcome help = scene.start(Who::kSelf, {"--help"});
  CHECK(help.output.find("--pyram-help") != std::string::npos);
}

TEST_CASE("a program can tell that it runs on Pyram") {
  const Scene scene;
  const Outcome outcome = scene.start(
      Who::kSelf, {"-I", "-S", "-c", "import sys; print(tuple(sys.pyram_version_info)[:3])"});
  CHECK(outcome.output == "(0, 1, 0)\n");
}

TEST_CASE("wrong use of Pyram's options and variables is one line") {
  const Scene scene;
  check_one_line(scene.start(Who::kSelf, {"--pyram-frobnicate"}), "--pyram-frobnicate");
  check_one_line(scene.start(Who::kSelf, {"--image"}), "--image");
  check_one_line(scene.start(Who::kSelf, {"-c", "1"}, {"PYRAM_BACKEND=magic"}), "magic");
  check_one_line(scene.start(Who::kSelf, {"-c", "1"}, {"PYRAM_IDLE_TIMEOUT=soon"}), "soon");
  check_one_line(scene.start(Who::kSelf, {"-c", "1"}, {"PYRAM_CACHE_SIZE=huge"}), "huge");
}

TEST_CASE("an image that can't be used is one line") {
  const Scene scene;
  check_one_line(scene.start(Who::kSelf, {"--image", "/nowhere.sqfs", "x"}), "/nowhere.sqfs");
  check_one_line(scene.start(Who::kSelf, {"--image", "/tmp", "x"}), "'/tmp'");
  check_one_line(scene.start(Who::kSelf, {"-c", "1"}, {"PYRAM_IMAGE=/nowhere.sqfs"}),
                 "/nowhere.sqfs");

  std::ofstream(scene.path("text.sqfs")) << "This is no image.\n";
  check_one_line(scene.start(Who::kSelf, {"--image", scene.path("text.sqfs"), "x"}), "text.sqfs");
  std::filesystem::copy_file(scene.image(), scene.path("short.sqfs"));
  std::filesystem::resize_file(scene.path("short.sqfs"), 1'000'000);
  check_one_line(scene.start(Who::kSelf, {"--image", scene.path("short.sqfs"), "x"}), "short.sqfs");
  CHECK(scene.mounts().empty());

  std::filesystem::copy_file(scene.image(), scene.path("secret.sqfs"));
  std::filesystem::permissions(scene.path("secret.sqfs"), std::filesystem::perms::owner_all);
  if (running_as_root()) {
    check_one_line(scene.start(Who::kPlain, {"--image", scene.path("secret.sqfs"), "x"}),
                   "secret.sqfs");
  }
}

TEST_CASE("a SquashFS without an interpreter is one line") {
  const Scene scene;
  std::filesystem::create_directory(scene.path("empty"));
  run_or_throw({{"mksquashfs", scene.path("empty"), scene.path("empty.sqfs"), "-quiet"}, {}, {}},
               ExitCode::kFailed, "make an image");
  for (const char* const variable : {"PYRAM_BACKEND", "PYRAM_BACKEND=extract"}) {
    const Outcome outcome =
        scene.start(Who::kSelf, {"--image", scene.path("empty.sqfs"), "x"}, {variable});
    check_one_line(outcome, "empty.sqfs");
    CHECK(outcome.errors.find("no libexec/") != std::string::npos);
  }
  CHECK(scene.mounts().empty());
}

TEST_CASE("an interpreter that can't be started is one line, whatever was asked of it") {
  const Scene scene;
  const auto tree = scene.path("broken");
  for (const char* const file : {layout::kLoader, layout::kProgram}) {
    std::filesystem::create_directories((tree / file).parent_path());
    std::ofstream(tree / file) << "no program";
    std::filesystem::permissions(tree / file, std::filesystem::perms(0755));
  }
  run_or_throw({{"mksquashfs", tree, scene.path("broken.sqfs"), "-quiet"}, {}, {}},
               ExitCode::kFailed, "make an image");
  // For the last two Pyram's own line would come after the interpreter's.
  for (const char* const argument : {"x", "--version", "--help"}) {
    check_one_line(scene.start(Who::kSelf, {"--image", scene.path("broken.sqfs"), argument}),
                   "cannot start the interpreter of '" + scene.path("broken.sqfs").native());
  }
}

TEST_CASE("images are found by name, and a wrong name lists those that exist") {
  const Scene scene;
  const auto images = scene.path("data") / "pyram/images";
  std::filesystem::create_directories(images);
  link_or_copy(scene.image(), images / "small.sqfs");
  link_or_copy(scene.image(), images / "default.sqfs");
  const std::string data = "XDG_DATA_HOME=" + scene.path("data").native();
  CHECK(scene.start(Who::kSelf, {"--image", "small", "-c", "print(1)"}, {data}).output == "1\n");
  CHECK(scene.start(Who::kSelf, {"-c", "print(1)"}, {data, "PYRAM_IMAGE"}).output == "1\n");

  const auto home = scene.path("home");
  std::filesystem::create_directories(home / ".local/share");
  std::filesystem::rename(scene.path("data") / "pyram", home / ".local/share/pyram");
  const std::string at_home = "HOME=" + home.native();
  CHECK(scene.start(Who::kSelf, {"--image=small", "-c", "print(1)"}, {at_home}).output == "1\n");
  const Outcome missing = scene.start(Who::kSelf, {"--image", "smal", "x"}, {at_home});
  check_one_line(missing, "'smal'");
  CHECK(missing.errors.find("default, small") != std::string::npos);
}

TEST_CASE("a named image is the one that sys.executable leads to") {
  const Scene scene;
  const std::string again =
      "import subprocess, sys; print(sys.prefix); "
      "print(subprocess.check_output([sys.executable, '-c', 'import sys; print(sys.prefix)'], "
      "text=True, env={}), end='')";
  link_or_copy(scene.image(), scene.path("other.sqfs"));
  const Outcome outcome =
      scene.start(Who::kSelf, {"--image", scene.path("other.sqfs"), "-c", again});
  INFO(outcome.errors);
  const std::string first = outcome.output.substr(0, outcome.output.find('\n') + 1);
  CHECK(outcome.output == first + first);
  CHECK(first.find("other-") != std::string::npos);
}

TEST_CASE("an unusable run-time directory is one line") {
  const Scene scene;
  const std::filesystem::path parent = scene.path("unsafe");
  std::filesystem::create_directory(parent);
  std::filesystem::permissions(parent, std::filesystem::perms::owner_all);
  const std::string variable = "XDG_RUNTIME_DIR=" + parent.native();
  const auto start = [&] { return scene.start(Who::kSelf, {"-c", "1"}, {variable}); };

  SECTION("a link") {
    std::filesystem::create_directory(scene.path("elsewhere"));
    std::filesystem::create_directory_symlink(scene.path("elsewhere"), parent / "pyram");
    check_one_line(start(), (parent / "pyram").native());
  }
  SECTION("a file") {
    std::ofstream(parent / "pyram") << "x";
    check_one_line(start(), (parent / "pyram").native());
  }
  SECTION("open to others") {
    std::filesystem::create_directory(parent / "pyram");
    for (const unsigned mode : {0750U, 0701U, 0777U}) {
      std::filesystem::permissions(parent / "pyram", std::filesystem::perms(mode));
      check_one_line(start(), "chmod 700");
    }
  }
  SECTION("somebody else's") {
    if (!running_as_root()) PYRAM_SKIP("only root can give a directory to another user");
    std::filesystem::create_directory(parent / "pyram");
    std::filesystem::permissions(parent / "pyram", std::filesystem::perms::owner_all);
    give_to_plain_user(parent / "pyram");
    check_one_line(start(), "uid 61234");
  }
  SECTION("full or read-only") {
    if (!running_as_root()) PYRAM_SKIP("only root can mount a file system of its own");
    const std::string option = GENERATE("size=4k,nr_inodes=2,mode=700", "ro,mode=700");
    run_or_throw({{"mount", "-t", "tmpfs", "-o", option, "none", parent.native()}, {}, {}},
                 ExitCode::kFailed, "mount a tmpfs");
    check_one_line(start(), parent.native());
  }
  CHECK(scene.daemons().empty());
}

TEST_CASE("another user's directories and images are not touched") {
  if (!running_as_root()) PYRAM_SKIP("needs two users");
  const Scene scene;
  // A directory where every user may make entries, in which the other user was first.
  const auto parent = scene.path("open");
  std::filesystem::create_directories(parent / "pyram");
  std::filesystem::permissions(parent, std::filesystem::perms::all);
  std::filesystem::permissions(parent / "pyram", std::filesystem::perms::owner_all);
  check_one_line(scene.start(Who::kPlain, {"-c", "1"}, {"XDG_RUNTIME_DIR=" + parent.native()}),
                 "uid 0");
  // A variable that was inherited from another user doesn't count.
  const Outcome inherited =
      scene.start(Who::kPlain, {"-c", "import sys; print(sys.prefix)"},
                  {"XDG_RUNTIME_DIR=" + scene.runtime_parent(Who::kSelf).native()});
  INFO(inherited.errors);
  CHECK(inherited.ok());
  CHECK_FALSE(inherited.output.starts_with(scene.runtime_parent(Who::kSelf).native()));
  const std::string prefix = inherited.output.substr(0, inherited.output.find('\n'));
  CHECK(run({{scene.pyram_mount(), "--unmount", prefix}, {}, {}}).ok());
}

TEST_CASE("set-uid use is refused") {
  if (!running_as_root()) PYRAM_SKIP("needs two users");
  const Scene scene;
  std::filesystem::copy_file(scene.pyram(), scene.path("bin/suid"));
  REQUIRE(::chmod(scene.path("bin/suid").c_str(), 04755) == 0);
  const Outcome outcome = run(as_plain_user({scene.path("bin/suid"), "-c", "print(1)"}));
  check_one_line(outcome, "set-uid");
}

TEST_CASE("closed standard descriptors stay closed, and get nothing that isn't theirs") {
  const Scene scene;
  // The first start mounts, the second one doesn't.
  for (int i = 0; i < 2; ++i) {
    const Outcome outcome =
        scene.shell(Who::kSelf,
                    "\"$0\" -c 'import os; os.write(1, repr(os.path.exists(\"/proc/self/fd/0\"))"
                    ".encode())' <&- 2>&-");
    CHECK(outcome.output == "False");
    CHECK(outcome.ok());
  }
  CHECK(scene.shell(Who::kSelf, "\"$0\" -c pass <&- >&- 2>&-").ok());
  CHECK(scene.shell(Who::kSelf, "\"$0\" --pyram-frobnicate <&- >&- 2>&-").status ==
        kLauncherFailed);
}

TEST_CASE("no process of Pyram's stays: signals and children are the script's own") {
  const Scene scene;
  const std::string children =
      "import os; print(os.path.basename(os.readlink('/proc/self/exe'))); "
      "print(repr(open('/proc/self/task/%d/children' % os.getpid()).read()))";
  CHECK(scene.start(Who::kSelf, {"-c", children}).output == "pypy3\n''\n");
  CHECK(scene.start(Who::kSelf, {"-c", children}).output == "pypy3\n''\n");
  CHECK(scene.start(Who::kSelf, {"-c", "import os; os.kill(os.getpid(), 15)"}).status == 128 + 15);
  CHECK(scene.start(Who::kSelf, {"-c", "raise SystemExit(77)"}).status == 77);
}

TEST_CASE("a daemon keeps nothing of the start that made it") {
  const Scene scene;
  // A pipe that the daemon kept open would have `cat` wait for ever.
  const Outcome outcome =
      scene.shell(Who::kSelf, "ulimit -t 50; { \"$0\" -c 'print(1)' 3>&1 4</dev/zero; } | cat");
  CHECK(outcome.output == "1\n");
  const std::vector<pid_t> daemons = scene.daemons();
  REQUIRE_FALSE(daemons.empty());
  for (const pid_t pid : daemons) {
    const std::filesystem::path process = "/proc/" + std::to_string(pid);
    CHECK(std::filesystem::read_symlink(process / "cwd") == "/");
    for (const auto& fd : std::filesystem::directory_iterator(process / "fd")) {
      const std::string target = std::filesystem::read_symlink(fd.path());
      INFO(target);
      CHECK(target.find("zero") == std::string::npos);
    }
  }
}

TEST_CASE("the environment is nobody's but the script's") {
  const Scene scene;
  const Outcome outcome = scene.start(Who::kSelf, {"-c", "import os; print(sorted(os.environ))"},
                                      {"HOME=/nonexistent"});
  CHECK(outcome.output == "['HOME', 'PATH', 'PYRAM_IMAGE', 'XDG_RUNTIME_DIR']\n");
}

TEST_CASE("a locale that the machine does not have is UTF-8, as with CPython") {
  const Scene scene;
  const std::string program =
      "import locale, os, sys; print(sys.getfilesystemencoding(), locale.getpreferredencoding(), "
      "os.environ.get('LANG'), os.environ.get('LC_CTYPE'))";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"LANG=xx_YY.UTF-8", "utf-8 utf-8 xx_YY.UTF-8 C.UTF-8\n"},
      {"LC_CTYPE=UTF-8", "utf-8 utf-8 None C.UTF-8\n"},
      {"LC_ALL=xx_YY", "utf-8 utf-8 None None\n"},
      {"LANG=C.UTF-8", "utf-8 utf-8 C.UTF-8 None\n"}};
  for (const auto& [variable, expected] : cases) {
    const Outcome outcome = scene.shell(
        Who::kSelf, "unset LANG LC_ALL LC_CTYPE; " + variable + " \"$0\" -c \"" + program + "\"");
    INFO(variable << ": " << outcome.errors);
    CHECK(outcome.output == expected);
  }
}

TEST_CASE("ps shows what was started, and nothing of the loader's") {
  const Scene scene;
  const std::string shown =
      "import sys; line = open('/proc/self/cmdline', 'rb').read(); "
      "print(line.rstrip(b'\\0').decode().split('\\0'), sys.argv)";
  Outcome outcome = scene.start(Who::kSelf, {"-c", shown + "  # 1", "a b", "c"});
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.output.starts_with("['" + scene.pyram() + "', '-c', "));
  CHECK(outcome.output.find("  # 1\", 'a b', 'c'] ['-c', 'a b', 'c']\n") != std::string::npos);
  CHECK(outcome.output.find("--library-path") == std::string::npos);

  // By the name that the image's own interpreter has, as children of a script have it.
  outcome =
      scene.start(Who::kSelf, {"--image", scene.image(), "-c",
                               "import subprocess, sys; subprocess.run([sys.executable, '-c', "
                               "sys.argv[1], 'x' * 100000, '', 'last'])",
                               shown});
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.output.find("/bin/pypy3', '-c', ") != std::string::npos);
  CHECK(outcome.output.find("xx', '', 'last'] ['-c', 'xx") != std::string::npos);
  CHECK(outcome.output.find("--argv0") == std::string::npos);

  // No argument at all.
  outcome = scene.shell(
      Who::kSelf, "echo 'print(open(\"/proc/self/cmdline\").read().count(\"lib\"))' | \"$0\"");
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.output == "0\n");
  outcome = scene.shell(Who::kSelf,
                        "\"$0\" -c 'import os; os.system(\"ps -o args= -p %d\" % os.getpid())' x");
  INFO(outcome.output << outcome.errors);
  CHECK(outcome.output.starts_with(scene.pyram() + " -c import os;"));
  CHECK(outcome.output.ends_with("os.getpid()) x\n"));
}
