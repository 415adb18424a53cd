// Packages that are added to an image, with wheels that the test makes itself.
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "support/error.h"
#include "support/io.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"

namespace fs = std::filesystem;
using namespace pyram::test;
using pyram::Command;
using pyram::ExitCode;
using pyram::Outcome;

namespace {

// Makes wheels: each argument is a JSON object with name, version, tag, files, requires, scripts,
// licence.
constexpr char kMakeWheels[] = R"(
import base64, hashlib, json, sys, zipfile
for text in sys.argv[1:]:
    want = json.loads(text)
    name, version, tag = want["name"], want.get("version", "1.0"), want.get("tag", "py3-none-any")
    info = "%s-%s.dist-info/" % (name, version)
    files = dict(want.get("files", {name + ".py": "def main():\n    import sys\n"
                                                  "    print('hello from', sys.argv[1:])\n"}))
    files[info + "METADATA"] = "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version)
    files[info + "METADATA"] += "License: MIT\n"
    for other in want.get("requires", []):
        files[info + "METADATA"] += "Requires-Dist: %s\n" % other
    files[info + "WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: %s\n" % tag
    if "licence" in want:
        files[info + "licenses/LICENSE.txt"] = want["licence"]
    if want.get("scripts"):
        files[info + "entry_points.txt"] = "[console_scripts]\n" + "".join(
            "%s = %s\n" % pair for pair in want["scripts"].items())
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode()
        record += "%s,sha256=%s,%d\n" % (path, digest.rstrip("="), len(content))
    with zipfile.ZipFile("%s-%s-%s.whl" % (name, version, tag), "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(info + "RECORD", record + info + "RECORD,,\n")
)";

// The default image's PyPy, unpacked once for all sections of a test: nobody writes into it.
fs::path unpacked_image() {
  static const TemporaryDirectory directory;
  const fs::path tree = directory / "pypy";
  if (!fs::exists(tree)) {
    pyram::run_or_throw(
        {{"unsquashfs", "-quiet", "-no-progress", "-dest", tree.native(), default_image().native(),
          "bin", "lib", "libexec", "local", "share/python-wheels", "share/doc",
          "share/common-licenses", ".pyram/manifest.json"},
         {},
         {}},
        ExitCode::kFailed, "unpack the default image");
  }
  return tree;
}

// That, and a directory of wheels.
class Workshop {
 public:
  Workshop() {
    fs::create_directories(wheels());
    fs::create_directories(directory_ / "out");
  }
  [[nodiscard]] const fs::path& tree() const { return tree_; }
  [[nodiscard]] fs::path wheels() const { return directory_ / "wheels"; }
  [[nodiscard]] fs::path image() const { return directory_ / "out/x.sqfs"; }
  [[nodiscard]] fs::path operator/(std::string_view name) const { return directory_ / name; }

  // Returns the file's path.
  std::string wheel(const nlohmann::json& want) const {
    pyram::run_or_throw(
        {{(tree() / "bin/pypy3").native(), "-I", "-c", kMakeWheels, want.dump()}, {}, wheels()},
        ExitCode::kFailed, "make a wheel");
    return (wheels() / (want.at("name").get<std::string>() + "-" + want.value("version", "1.0") +
                        "-" + want.value("tag", "py3-none-any") + ".whl"))
        .native();
  }
  [[nodiscard]] Outcome build(const std::vector<std::string>& more) const {
    Command command = pyram::test::build(tree(), image(), {"--no-train"});
    command.arguments.insert(command.arguments.end(), more.begin(), more.end());
    return pyram::run(command);
  }
  void check_refused(const std::vector<std::string>& more, ExitCode code,
                     const std::vector<std::string>& texts) const {
    const Outcome outcome = build(more);
    for (const std::string& text : texts) check_failure(outcome, code, text);
    CHECK(fs::is_empty(directory_ / "out"));
  }

 private:
  TemporaryDirectory directory_;
  const fs::path tree_ = unpacked_image();
};

// A package of a lock file, which is one wheel.
struct Locked {
  std::string name, version, digest, marker;
};

std::string pylock(const std::vector<Locked>& packages) {
  std::string text = "lock-version = '1.0'\ncreated-by = 'a test'\n";
  for (const Locked& package : packages) {
    text += "[[packages]]\nname = '" + package.name + "'\nversion = '" + package.version + "'\n";
    if (!package.marker.empty()) text += "marker = \"" + package.marker + "\"\n";
    text += "wheels = [{url = 'https://example.org/x.whl', hashes = {sha256 = '" + package.digest +
            "'}}]\n";
  }
  return text;
}

std::string sha256(const std::string& file) {
  return pyram::run_or_throw({{"sha256sum", file}, {}, {}}, ExitCode::kFailed, "sum").substr(0, 64);
}

}  // namespace

TEST_CASE("a wheel and what it needs come into the image, and its script runs anywhere") {
  const Workshop shop;
  const std::string greeting = shop.wheel({{"name", "greeting"},
                                           {"requires", {"helper>=2"}},
                                           {"scripts", {{"greet", "greeting:main"}}}});
  shop.wheel({{"name", "helper"}, {"version", "1.0"}});
  shop.wheel({{"name", "helper"}, {"version", "2.5"}, {"licence", "Do as you like.\n"}});
  const Outcome built =
      shop.build({"--wheel", greeting, "--no-index", "--find-links", shop.wheels().native()});
  INFO(built.errors);
  REQUIRE(built.ok());

  const fs::path unpacked = shop / "some where";
  pyram::run_or_throw(
      {{"unsquashfs", "-quiet", "-no-progress", "-dest", unpacked.native(), shop.image().native()},
       {},
       {}},
      ExitCode::kFailed, "unpack the image");
  for (const fs::path& directory : {unpacked, shop / "moved"}) {
    if (!fs::exists(directory)) fs::rename(unpacked, directory);
    const Outcome said = pyram::run({{(directory / "bin/greet").native(), "a b", "c"},
                                     std::vector<std::string>{"PATH=/usr/bin:/bin"},
                                     "/"});
    INFO(said.errors);
    CHECK(said.output == "hello from ['a b', 'c']\n");
    const Outcome admin = pyram::run({{(directory / "bin/django-admin").native(), "version"},
                                      std::vector<std::string>{"PATH=/usr/bin:/bin"},
                                      "/"});
    CHECK(admin.output.starts_with("4."));
  }
  // Bytecode too, nothing of this machine, and a RECORD that holds.
  const Outcome paths =
      pyram::run({{"grep", "-rlF", (shop / "").native(), (shop / "moved").native()}, {}, {}});
  CHECK(paths.output.empty());
  const Outcome checked = pyram::run(
      {{(shop / "moved/bin/pypy3").native(), "-I", "-c",
        "import greeting, hashlib, base64, os, importlib.metadata as m\n"
        "assert os.path.exists(greeting.__cached__)\n"
        "for file in m.distribution('greeting').files:\n"
        "    if file.hash:\n"
        "        value = hashlib.sha256(file.locate().read_bytes()).digest()\n"
        "        assert base64.urlsafe_b64encode(value).decode().rstrip('=') == file.hash.value\n"
        "print(m.version('helper'))"},
       {},
       {}});
  INFO(checked.errors);
  CHECK(checked.output == "2.5\n");
  const auto info = nlohmann::json::parse(
      pyram::run({{program("pyram-image"), "info", "--json", shop.image().native()}, {}, {}})
          .output);
  std::map<std::string, nlohmann::json> packages;
  for (const auto& package : info["packages"]) packages[package["name"]] = package;
  CHECK(packages["greeting"]["kind"] == "wheel");
  CHECK(packages["greeting"]["sha256"] == sha256(greeting));
  CHECK(packages["greeting"]["licences"] == nlohmann::json{"MIT"});

  // What was in the image before is still known, and each licence is there or said to be missing.
  CHECK(packages["python3-django"]["kind"] == "deb");
  CHECK(packages["helper"]["licence_files"].size() == 1);
  for (const auto& [name, package] : packages) {
    INFO(name);
    for (const std::string file : package["licence_files"]) {
      CHECK(fs::is_regular_file(shop / "moved" / file));
    }
    const bool said =
        built.errors.find("no licence in the image for " + name + " ") != std::string::npos;
    CHECK(said == package["licence_files"].empty());
    CHECK(said == (name == "greeting"));
  }
}

TEST_CASE("what doesn't fit is refused before anything is packed") {
  const Workshop shop;
  const std::vector<std::string> nowhere = {"--no-index", "--find-links", shop.wheels().native()};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), nowhere.begin(), nowhere.end());
    return more;
  };
  SECTION("a wheel for another interpreter") {
    const std::string wheel =
        shop.wheel({{"name", "other"}, {"tag", "cp311-cp311-manylinux_2_17_x86_64"}});
    shop.check_refused(with({"--wheel", wheel}), ExitCode::kBadSource,
                       {"other-1.0-cp311", "not a supported wheel"});
  }
  SECTION("something needed that is nowhere") {
    const std::string wheel = shop.wheel({{"name", "needy"}, {"requires", {"nowhere-to-be-had"}}});
    shop.check_refused(with({"--wheel", wheel}), ExitCode::kBadSource, {"nowhere-to-be-had"});
  }
  SECTION("pip, although the build itself runs one") {
    const std::string wheel = shop.wheel({{"name", "tool"}, {"requires", {"pip"}}});
    shop.check_refused(with({"--wheel", wheel}), ExitCode::kBadSource,
                       {"there is no version of pip"});
  }
  SECTION("a package that doesn't exist") {
    shop.check_refused(with({"--with", "nowhere-to-be-had==3"}), ExitCode::kBadSource,
                       {"nowhere-to-be-had==3"});
  }
  SECTION("two packages with the same file") {
    const std::string one = shop.wheel({{"name", "one"}, {"files", {{"shared.py", "x = 1\n"}}}});
    const std::string two = shop.wheel({{"name", "two"}, {"files", {{"shared.py", "x = 2\n"}}}});
    shop.check_refused(with({"--wheel", one, "--wheel", two}), ExitCode::kBadSource,
                       {"'one' and 'two' both bring", "shared.py"});
  }
  SECTION("a file that the source has") {
    const std::string wheel =
        shop.wheel({{"name", "shadow"}, {"files", {{"django/__init__.py", "VERSION = ()\n"}}}});
    shop.check_refused(with({"--wheel", wheel}), ExitCode::kBadSource,
                       {"'shadow' both bring", "django/__init__.py"});
  }
  SECTION("a version that another package forbids") {
    const std::string wheel = shop.wheel({{"name", "picky"}, {"requires", {"sqlparse<0.1"}}});
    shop.check_refused(with({"--wheel", wheel}), ExitCode::kBadSource, {"sqlparse"});
  }
  SECTION("a hash that differs") {
    const std::string wheel = shop.wheel({{"name", "hashed"}});
    const fs::path requirements = shop / "requirements.txt";
    std::ofstream(requirements) << "hashed==1.0 --hash=sha256:" << std::string(64, '0') << "\n";
    shop.check_refused(with({"-r", requirements.native()}), ExitCode::kVerification,
                       {"hashed", sha256(wheel)});
  }
  SECTION("a requirement without a hash among others with one") {
    const std::string wheel = shop.wheel({{"name", "hashed"}});
    shop.wheel({{"name", "bare"}});
    const fs::path requirements = shop / "requirements.txt";
    std::ofstream(requirements) << "hashed==1.0 --hash=sha256:" << sha256(wheel) << "\nbare\n";
    shop.check_refused(with({"-r", requirements.native()}), ExitCode::kBadSource,
                       {"--require-hashes"});
  }
  SECTION("a damaged wheel") {
    const std::string wheel = shop.wheel({{"name", "broken"}});
    fs::resize_file(wheel, fs::file_size(wheel) / 2);
    shop.check_refused(with({"--wheel", wheel}), ExitCode::kBadSource, {"broken"});
  }
  SECTION("a wheel that leads out") {
    const std::string wheel =
        shop.wheel({{"name", "evil"}, {"files", {{"../../../evil.py", "x = 1\n"}}}});
    shop.check_refused(with({"--wheel", wheel}), ExitCode::kBadSource, {"evil"});
  }
  SECTION("a wheel that isn't there, a name that is none, Debian's for another source") {
    shop.check_refused({"--wheel", "/nonexistent/x.whl"}, ExitCode::kBadSource,
                       {"'/nonexistent/x.whl'"});
    shop.check_refused({"--with", "--upgrade"}, ExitCode::kUsage, {""});
    shop.check_refused({"--with", "debian:python3-yaml"}, ExitCode::kUsage,
                       {"debian:python3-yaml"});
  }
}

TEST_CASE("hashes that are right are honoured") {
  const Workshop shop;
  const std::string wheel = shop.wheel({{"name", "hashed"}, {"requires", {"other"}}});
  const std::string other = shop.wheel({{"name", "other"}});
  const fs::path requirements = shop / "requirements.txt";
  std::ofstream(requirements) << "hashed==1.0 --hash=sha256:" << sha256(wheel)
                              << "\nother==1.0 --hash=sha256:" << sha256(other) << "\n";
  const Outcome built = shop.build({"-r", requirements.native(), "--no-index", "--find-links",
                                    shop.wheels().native(), "--strip", "lib/**/django/"});
  INFO(built.errors);
  CHECK(built.ok());
}

TEST_CASE(
    "a pylock.toml is what is installed, and what is asked for beside it comes without hashes") {
  const Workshop shop;
  const std::string wheel = shop.wheel({{"name", "locked"}, {"requires", {"other"}}});
  shop.wheel({{"name", "locked"}, {"version", "2.0"}});
  const std::string other = shop.wheel({{"name", "other"}});
  shop.wheel({{"name", "beside"}, {"requires", {"locked"}}});
  fs::create_directories(shop / "project");
  const fs::path lock = shop / "project/pylock.toml";
  std::ofstream(lock) << pylock({{"locked", "1.0", sha256(wheel), ""},
                                 {"other", "1.0", sha256(other), "python_version > '3'"},
                                 {"absent", "1.0", sha256(other), "sys_platform == 'win32'"},
                                 {"tests", "1.0", sha256(other), "'dev' in dependency_groups"}})
                      << "[[packages]]\nname = 'site'\ndirectory = {path = '.', editable = true}\n";
  const Outcome built =
      shop.build({"-r", lock.native(), "--with", "beside", "--no-index", "--find-links",
                  shop.wheels().native(), "--strip", "lib/**/django/"});
  INFO(built.errors);
  REQUIRE(built.ok());
  CHECK(built.errors.find("not in the lock file, so without a hash of yours: beside\n") !=
        std::string::npos);
  const auto info = nlohmann::json::parse(
      pyram::run({{program("pyram-image"), "info", "--json", shop.image().native()}, {}, {}})
          .output);
  std::map<std::string, std::string> versions;
  for (const auto& package : info["packages"]) versions[package["name"]] = package["version"];
  CHECK(versions["locked"] == "1.0");
  CHECK(versions.contains("other"));
  CHECK(versions.contains("beside"));
  CHECK_FALSE(versions.contains("absent"));
  CHECK_FALSE(versions.contains("tests"));
}

TEST_CASE("a pylock.toml that doesn't hold here is refused") {
  const Workshop shop;
  const std::string wheel = shop.wheel({{"name", "locked"}});
  const fs::path lock = shop / "pylock.toml";
  const auto refused = [&](const std::string& text, ExitCode code, const std::string& said) {
    std::ofstream(lock) << text;
    shop.check_refused({"-r", lock.native(), "--no-index", "--find-links", shop.wheels().native()},
                       code, {said});
  };
  SECTION("a hash that differs") {
    refused(pylock({{"locked", "1.0", std::string(64, '0'), ""}}), ExitCode::kVerification,
            sha256(wheel));
  }
  SECTION("no hash") {
    refused(
        "lock-version = '1.0'\n[[packages]]\nname = 'locked'\nversion = '1.0'\n"
        "vcs = {type = 'git', url = 'https://example.org', commit-id = 'a'}\n",
        ExitCode::kBadSource, "locked comes from vcs, which has no hash");
  }
  SECTION("another Python") {
    refused("requires-python = '>=4'\n" + pylock({}), ExitCode::kBadSource,
            "it is for Python >=4, and the image's is 3.");
  }
  SECTION("another version") {
    refused("lock-version = '2.0'\n", ExitCode::kBadSource, "its lock-version is '2.0'");
  }
  SECTION("no TOML") { refused("lock-version = \n", ExitCode::kBadSource, "TOMLDecodeError"); }
}

TEST_CASE("gunicorn from the package index runs out of the image") {
  const Workshop shop;
  const Outcome built = shop.build({"--with", "gunicorn"});
  if (built.last_line().find("No matching distribution") != std::string::npos) {
    PYRAM_SKIP("no package index that has gunicorn: " + built.last_line());
  }
  INFO(built.errors);
  REQUIRE(built.ok());
  const fs::path unpacked = shop / "unpacked";
  pyram::run_or_throw(
      {{"unsquashfs", "-quiet", "-no-progress", "-dest", unpacked.native(), shop.image().native()},
       {},
       {}},
      ExitCode::kFailed, "unpack the image");
  const Outcome said = pyram::run({{(unpacked / "bin/gunicorn").native(), "--version"},
                                   std::vector<std::string>{"PATH=/usr/bin:/bin"},
                                   "/"});
  INFO(said.errors);
  CHECK(said.output.starts_with("gunicorn (version "));
}
