// The tar: source: a portable build's layout, and archives that nobody should unpack.
#include <sys/stat.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "support/error.h"
#include "support/io.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"

namespace fs = std::filesystem;
using namespace pyram::test;
using pyram::ExitCode;
using pyram::Outcome;

namespace {

// `script` in a directory; GNU tar makes what libarchive then has to judge.
void shell(const fs::path& directory, const std::string& script) {
  pyram::run_or_throw({{"sh", "-euc", script}, {}, directory}, ExitCode::kFailed,
                      "make an archive");
}

// An archive as PyPy's own are: one directory, the library beside the program, links in bin/. It
// brings its C library (lib64/), since that of the machine may be too old for the image's PyPy.
void make_portable(const TemporaryDirectory& directory, const std::string& archive) {
  const fs::path prefix = small_pypy(directory);
  const fs::path top = directory / "pypy3.11-v7.3.19-linux64";
  fs::create_directories(top / "bin");
  fs::rename(prefix / "libexec/pyram/loader", top / "lib64");
  fs::rename(top / "lib64/pypy3", top / "lib64/ld-linux-x86-64.so.2");
  shell(directory.path(),
        "cd pypy3.11-v7.3.19-linux64\n"
        "mv ../pypy/libexec/pyram/pypy3 bin/pypy3.11\n"
        "mv ../pypy/libexec/pyram/libpypy3* bin/\n"
        "mv ../pypy/libexec/pyram/* lib64/\n"
        // What it lacks, every Debian machine has.
        "rm lib64/libz.so.1\n"
        // Links to a file of another directory, which may come before or after it.
        "mkdir -p share/zoneinfo/A share/zoneinfo/B share/zoneinfo/C share/zoneinfo/D\n"
        "echo zone >share/zoneinfo/B/zone\n"
        "for directory in A C D; do ln -s ../B/zone share/zoneinfo/$directory/zone; done\n"
        "rmdir ../pypy/libexec/pyram && mv ../pypy/lib lib\n"
        "ln -s pypy3.11 bin/pypy3 && ln -s pypy3 bin/pypy && ln -s pypy3 bin/python\n"
        "mkdir include && echo '#define X' >include/Python.h\n"
        // Where this PyPy, being Debian's, has its packages.
        "mkdir -p lib/python3/dist-packages; echo 'answer = 42' "
        ">lib/python3/dist-packages/brought.py\n"
        "echo 'The MIT License' >LICENSE\n"
        "cd .. && rm -r pypy && tar -caf " +
            archive + " pypy3.11-v7.3.19-linux64 && rm -r pypy3.11-v7.3.19-linux64");
}

// PyPy's own, and that of the library which the machine lent.
void check_licences(const fs::path& image, const fs::path& tree, const std::string& source) {
  const auto info = nlohmann::json::parse(
      pyram::run({{program("pyram-image"), "info", "--json", image.native()}, {}, {}}).output);
  CHECK(info["source"] == source);
  std::map<std::string, nlohmann::json> packages;
  for (const auto& package : info["packages"]) packages[package["name"]] = package;
  REQUIRE(packages.size() == 2);
  CHECK(packages["pypy"]["licence_files"] == nlohmann::json{"share/doc/pypy/copyright"});
  const nlohmann::json& lent = packages["zlib1g"];
  CHECK(lent["kind"] == "deb");
  CHECK(lent["source"] == "installed");
  CHECK_FALSE(lent["version"].get<std::string>().empty());
  CHECK(lent["licences"] == nlohmann::json{"Zlib"});
  CHECK(pyram::read_file(tree / "share/doc/zlib1g/copyright") ==
        pyram::read_file("/usr/share/doc/zlib1g/copyright"));
  CHECK(info["files"]["libexec/pyram/libz.so.1"]["package"] == "zlib1g");
}

}  // namespace

TEST_CASE("an image is built from a portable archive") {
  for (const std::string archive : {"pypy.tar.bz2", "pypy.tar.zst"}) {
    const TemporaryDirectory directory;
    make_portable(directory, archive);
    const fs::path image = directory / "x.sqfs";
    // The second is built where dpkg knows of no package.
    const bool has_dpkg = archive == "pypy.tar.bz2";
    pyram::Command build{
        {program("pyram-image"), "build", "--from", "tar:" + (directory / archive).native(), "-o",
         image.native(), "--level", "1", "--no-train"},
        {},
        {}};
    if (!has_dpkg) {
      build.environment =
          std::vector<std::string>{"PATH=/usr/bin:/bin", "DPKG_ADMINDIR=/nonexistent"};
    }
    Outcome outcome = pyram::run(build);
    INFO(outcome.errors);
    REQUIRE(outcome.ok());
    CHECK(outcome.errors.find("left out the link") == std::string::npos);
    const bool said =
        outcome.errors.find("no licence in the image for libexec/pyram/libz.so.1: ") !=
        std::string::npos;
    CHECK(said == !has_dpkg);
    CHECK(entries_in(directory.path()) == 2);
    const fs::path tree = directory / "tree";
    pyram::run_or_throw(
        {{"unsquashfs", "-quiet", "-no-progress", "-dest", tree.native(), image.native()}, {}, {}},
        ExitCode::kFailed, "unpack the image");
    outcome = pyram::run({{(tree / "bin/python3").native(), "-c",
                           "import brought, sys; print(brought.answer, sys.executable)"},
                          std::vector<std::string>{},
                          "/"});
    INFO(outcome.errors);
    CHECK(outcome.output == "42 " + (tree / "bin/python3").native() + "\n");
    CHECK(pyram::read_file(tree / "share/doc/pypy/copyright") == "The MIT License\n");
    CHECK_FALSE(fs::exists(tree / "include"));
    for (const char* link : {"A", "C", "D"}) {
      CHECK(fs::read_symlink(tree / "share/zoneinfo" / link / "zone") == "../B/zone");
    }
    if (has_dpkg) check_licences(image, tree, "tar:" + archive);
  }
}

TEST_CASE("an archive that would harm is refused with the entry's name, and nothing stays") {
  const TemporaryDirectory directory;
  const fs::path output_directory = directory / "out";
  fs::create_directories(output_directory);
  fs::create_directories(directory / "in/bin");
  std::ofstream(directory / "in/bin/pypy3") << "x";
  std::ofstream(directory / "outside") << "as it was";
  const auto check = [&](const std::string& script, std::string_view text) {
    shell(directory / "in", script);
    const Outcome outcome = pyram::run(
        {{program("pyram-image"), "build", "--from", "tar:" + (directory / "x.tar").native(), "-o",
          (output_directory / "x.sqfs").native()},
         {},
         {}});
    check_failure(outcome, ExitCode::kBadSource, text);
    CHECK(outcome.last_line().find("x.tar") != std::string::npos);
    CHECK(fs::is_empty(output_directory));
    CHECK(pyram::read_file(directory / "outside") == "as it was");
  };
  SECTION("a path that leads out") {
    check("tar -P -cf ../x.tar bin ../outside", "'../outside' leads out");
  }
  SECTION("an absolute path") {
    check("tar -P -cf ../x.tar bin \"$PWD/bin/pypy3\"", "has an absolute path");
  }
  SECTION("a link that leads out") {
    check("ln -s ../../outside bin/l && tar -cf ../x.tar bin", "'bin/l' is a link to");
  }
  SECTION("an absolute link") {
    check("ln -s /etc/passwd bin/l && tar -cf ../x.tar bin", "'bin/l' is a link to '/etc/passwd'");
  }
  SECTION("links that lead out together") {
    check("mkdir -p a/b && ln -s a/b c && ln -s c/../../.. d && tar -cf ../x.tar bin a c d",
          "'d' is a link to");
  }
  SECTION("links in a circle") {
    check("ln -s a b && ln -s b a && tar -cf ../x.tar bin a b", "leads nowhere");
  }
  SECTION("a file behind a link") {
    check(
        "ln -s bin l && tar -cf ../x.tar bin l && rm l && mkdir l && echo x >l/pypy3 && "
        "tar -rf ../x.tar l/pypy3",
        "'l/pypy3' lies behind a symbolic link");
  }
  SECTION("a hard link to what isn't there") {
    check("ln bin/pypy3 h && tar -cf ../x.tar bin h && tar --delete -f ../x.tar bin/pypy3",
          "'h' is a link to");
  }
  SECTION("set-uid") {
    check("tar --mode=4755 -cf ../x.tar bin/pypy3", "'bin/pypy3' is set-uid or set-gid");
  }
  SECTION("a named pipe") { check("mkfifo bin/p && tar -cf ../x.tar bin", "'bin/p' is neither"); }
  SECTION("a device") {
    if (!running_as_root()) PYRAM_SKIP("making a device needs root");
    check("mknod bin/null c 1 3 && tar -cf ../x.tar bin", "'bin/null' is neither");
  }
  SECTION("a file twice") {
    check("tar -cf ../x.tar bin && tar -rf ../x.tar bin/pypy3", "'bin/pypy3' is in it twice");
  }
  SECTION("without PyPy") {
    check("mkdir top && echo x >top/readme && tar -cf ../x.tar top", "there is no PyPy in");
  }
  SECTION("no archive") { check("echo text >../x.tar", "cannot unpack"); }
  SECTION("cut") {
    check(
        "head -c 100000 /dev/urandom >bin/noise && tar -czf ../y bin && head -c 60000 ../y "
        ">../x.tar",
        "cannot unpack");
  }
  SECTION("damaged") {
    check(
        "head -c 100000 /dev/urandom >bin/noise && tar -cf - bin | bzip2 >../x.tar && "
        "printf xxxxxxxx | dd of=../x.tar bs=1 seek=50000 conv=notrunc status=none",
        "cannot unpack");
  }
}
