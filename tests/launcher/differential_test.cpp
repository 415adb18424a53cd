// The same command line under pyram and under the unpacked image's own bin/pypy3: everything that
// comes out has to be the same.
//
// What may differ, and why:
//   - the image's root: a mount point in one case, a directory in the other (sys.prefix, sys.path);
//   - sys.executable, and messages that begin with it: the launcher's path, which outlives the
//     mount, in place of the root's bin/pypy3;
//   - the line that pyram adds to --version and --help.
// These are replaced by fixed words before comparing. Nothing else is.
#include <algorithm>

#include "tests/launcher/scene.h"
#include "tests/support/catch.h"

using namespace pyram;
using namespace pyram::test;

namespace {

struct Case {
  const char* text;                      // For `sh -c`; "$0" is the interpreter, $R report.py.
  std::vector<std::string> environment;  // Beside the scene's own.
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"\"$0\" $R", {}},
      {"\"$0\" $R a b c", {}},
      {"\"$0\" ./report.py", {}},
      {"cd sub && \"$0\" ../report.py", {}},
      {"\"$0\" \"$PWD/report.py\"", {}},
      {"\"$0\" 'a name with blanks.py' x", {}},
      {"\"$0\" \"it's \\\"quoted\\\".py\"", {}},
      {"\"$0\" link.py", {}},
      {"\"$0\" - < report.py", {}},
      {"\"$0\" - a '' b < report.py", {}},
      {"\"$0\" < report.py", {}},
      {"\"$0\" -c \"$(cat report.py)\"", {}},
      {"\"$0\" -c \"$(cat report.py)\" -c --toram --image x", {}},
      {"\"$0\" -m report a b", {}},
      {"\"$0\" -m package x", {}},
      {"\"$0\" -m package.module x", {}},
      {"\"$0\" directory x", {}},
      {"\"$0\" archive.zip x", {}},
      {"\"$0\" -B $R", {}},
      {"\"$0\" -E $R", {"PYTHONOPTIMIZE=1"}},
      {"\"$0\" -I $R", {"PYTHONPATH=/x"}},
      {"\"$0\" -S $R", {}},
      {"\"$0\" -s $R", {}},
      {"\"$0\" -sSE $R", {}},
      {"\"$0\" -u $R", {}},
      {"\"$0\" -v -c pass 2>/dev/null", {}},
      {"\"$0\" -O $R", {}},
      {"\"$0\" -OO $R", {}},
      {"\"$0\" -q $R", {}},
      {"\"$0\" -b $R", {}},
      {"\"$0\" -bb -c 'b\"x\" == \"x\"'", {}},
      {"\"$0\" -W error -c 'import warnings; warnings.warn(\"w\")'", {}},
      {"\"$0\" -W ignore $R", {}},
      {"\"$0\" -X utf8 $R", {}},
      {"\"$0\" -X utf8=0 -X dev $R", {}},
      {"\"$0\" -X faulthandler $R", {}},
      {"\"$0\" -P $R", {}},
      {"\"$0\" --jit off $R", {}},
      {"\"$0\" --jit threshold=5 $R", {}},
      {"\"$0\" --check-hash-based-pycs always $R", {}},
      {"\"$0\" -x shebang.py", {}},
      {"\"$0\" -i -c 'print(1)' < /dev/null", {}},
      {"\"$0\" -c 'import sys; print(sys.version)'", {}},
      {"\"$0\" $R", {"PYTHONPATH=/one:/two"}},
      {"\"$0\" $R", {"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"}},
      {"\"$0\" $R", {"PYTHONIOENCODING=latin-1", "PYTHONHASHSEED=0"}},
      {"\"$0\" $R", {"PYTHONUTF8=1", "LC_ALL=C"}},
      {"\"$0\" $R", {"LANG=C.UTF-8", "PYTHONWARNINGS=error"}},
      {"\"$0\" -i < /dev/null", {"PYTHONSTARTUP=/nonexistent"}},
      {"\"$0\" $R", {"HOME=/nonexistent", "PYTHONNOUSERSITE=1"}},
      {"\"$0\" $R", {"LD_LIBRARY_PATH=/nonexistent", "LD_BIND_NOW=1"}},
      {"\"$0\" $R \"$(printf '\\377\\376')\" \"$(printf 'a\\nb')\"", {}},
      {"\"$0\" $R $(seq 1000)", {}},
      {"\"$0\" \"$(printf 'x\\377.py')\"", {}},
      {"\"$0\" nowhere.py", {}},
      {"\"$0\" unreadable.py", {}},
      {"\"$0\" -m nowhere", {}},
      {"\"$0\" -z", {}},
      {"\"$0\" -c", {}},
      {"\"$0\" -c 'raise SystemExit(3)'", {}},
      {"\"$0\" -c 'raise SystemExit(\"reason\")'", {}},
      {"\"$0\" -c '1/0'", {}},
      {"\"$0\" -c 'syntax error'", {}},
      {"\"$0\" -c 'import os; os._exit(200)'", {}},
      {"\"$0\" -c 'import os, signal; os.kill(os.getpid(), signal.SIGTERM)'; echo $?", {}},
      {"\"$0\" -c 'import os, signal; os.kill(os.getpid(), signal.SIGINT)'; echo $?", {}},
      {"\"$0\" -c 'import os; os.kill(os.getpid(), 9)'; echo $?", {}},
      {"\"$0\" -c 'import os; os.abort()'; echo $?", {}},
      {"{ \"$0\" -c 'while True: print(1)'; echo $? >&2; } | head -1", {}},
      {"\"$0\" $R 5</dev/null 9>&1 17</etc/passwd", {}},
      {"\"$0\" $R <&-", {}},
      {"\"$0\" -c 'import sys; sys.stderr.write(\"x\")' >&-", {}},
      {"\"$0\" $R 2>&-", {}},
      {"trap '' HUP USR1; \"$0\" $R", {}},
      {"umask 077; ulimit -n 100 -c 0; \"$0\" $R", {}},
      {"mkdir gone && cd gone && rmdir ../gone && \"$0\" -c 'print(1)'", {}},
      {"env -i \"$0\" -c 'import os; print(os.environ)'", {"OWN_ENVIRONMENT=1"}},
      {"nice -n 5 \"$0\" $R", {}},
      {"setsid -w \"$0\" $R", {}},
      {"\"$0\" -c 'import subprocess, sys; print(subprocess.run([sys.executable, \"-S\", \"-c\", "
       "\"import sys; print(sys.flags, sys.argv, sys.path)\"], capture_output=True))'",
       {}},
      {"\"$0\" -m timeit -n 1 -r 1 pass >/dev/null", {}},
      {"\"$0\" -m json.tool < data.json", {}},
      {"\"$0\" --version", {}},
      {"\"$0\" --help", {}},
  };
  return all;
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

void remove_line_that_begins(std::string& text, const std::string& begin) {
  const std::size_t at = text.find(begin);
  if (at == std::string::npos) return;
  text.erase(at, std::min(text.find('\n', at), text.size() - 1) + 1 - at);
}

std::string described(Outcome outcome, const std::string& root, const std::string& executable) {
  std::string all = "exit " + std::to_string(outcome.status) + "\n-- output\n" + outcome.output +
                    "\n-- errors\n" + outcome.errors;
  replace_all(all, executable, "EXECUTABLE");
  replace_all(all, root, "ROOT");
  remove_line_that_begins(all, "Pyram " PYRAM_VERSION);
  return all;
}

}  // namespace

TEST_CASE("command lines do the same under pyram and under the unpacked PyPy") {
  const Scene scene;
  REQUIRE(cases().size() >= 60);
  const std::filesystem::path work = scene.path("work");
  std::filesystem::create_directory(work);
  std::filesystem::copy_file(PYRAM_TEST_SOURCE "/tests/launcher/report.py", work / "report.py");
  run_or_throw({{"/bin/sh", "-c",
                 "mkdir sub directory package; cp report.py 'a name with blanks.py'; "
                 "cp report.py \"it's \\\"quoted\\\".py\"; ln -s report.py link.py; "
                 "cp report.py directory/__main__.py; cp report.py package/__main__.py; "
                 "cp report.py package/module.py; touch package/__init__.py; "
                 "{ echo '#!/usr/bin/env pyram'; cat report.py; } > shebang.py; "
                 "mkdir unreadable.py; echo '{\"a\": [1, 2]}' > data.json"},
                {},
                work},
               ExitCode::kFailed, "prepare");
  const std::filesystem::path& unpacked = unpacked_image();
  const std::string reference = unpacked / "bin/pypy3";
  const std::string zip =
      "import zipfile; z = zipfile.ZipFile('archive.zip', 'w'); "
      "z.write('report.py', '__main__.py'); z.close()";
  run_or_throw({{reference, "-c", zip}, {}, work}, ExitCode::kFailed, "make an archive");

  const Outcome first = scene.start(Who::kSelf, {"-c", "import sys; print(sys.prefix, end='')"});
  REQUIRE(first.ok());
  for (const Case& one : cases()) {
    std::vector<std::string> environment = one.environment;
    environment.emplace_back("R=report.py");
    Command command = scene.command(Who::kSelf, {}, environment);
    command.directory = work;
    std::string text = one.text;
    command.arguments = {"/bin/sh", "-c", text, reference};
    const Outcome expected = run(command);
    // `env -i` takes away PYRAM_IMAGE as well: the image has to be named then.
    if (text.starts_with("env -i")) {
      text.insert(text.find("\"$0\"") + 4, " --image " + scene.image());
      text.insert(6, " XDG_RUNTIME_DIR=" + scene.runtime_parent(Who::kSelf).native());
      replace_all(text, "print(os.environ)",
                  "os.environ.pop(\"XDG_RUNTIME_DIR\"); print(os.environ)");
    }
    command.arguments = {"/bin/sh", "-c", text, scene.pyram()};
    const Outcome actual = run(command);
    INFO(one.text);
    CHECK(described(actual, first.output, scene.pyram()) ==
          described(expected, unpacked.native(), reference));
  }
}
