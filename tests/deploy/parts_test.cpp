// What pyram-app does with images, links and the control socket. No systemd: that is
// tests/packaging/deploy.test.
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "deploy/app_image.h"
#include "deploy/control_client.h"
#include "deploy/site.h"
#include "image-builder/output/integrity.h"
#include "support/child.h"
#include "support/error.h"
#include "support/io.h"
#include "support/process.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"

namespace fs = std::filesystem;
using namespace pyram::deploy;
using namespace pyram::test;
using nlohmann::json;
using pyram::Child;
using pyram::Error;
using pyram::ExitCode;
using pyram::UniqueFd;

namespace {

json app_manifest() {
  utsname names{};
  REQUIRE(::uname(&names) == 0);
  return {{"format", 1},
          {"time", 1700000000},
          {"files", json::object()},
          {"packages", json::array()},
          {"python", {{"platform", std::string("linux-") + names.machine}}},
          {"app",
           {{"kind", "wsgi"}, {"application", "mysite.wsgi:application"}, {"settings", "mysite"}}}};
}

// An image of nothing but a manifest and `content`, with a Merkle tree.
fs::path app_image(const TemporaryDirectory& directory, const std::string& name,
                   const json& manifest, const std::string& content = "") {
  const fs::path tree = directory / (name + "-tree");
  fs::create_directories(tree / ".pyram");
  pyram::write_file(tree / ".pyram/manifest.json", manifest.dump());
  pyram::write_file(tree / "content", content);
  fs::path image = make_image(tree, directory / (name + ".sqfs"));
  (void)pyram::builder::seal(image, {});
  return image;
}

// The error that `work` ends with: its code, and one line that has `words`.
template <typename Work>
void check_refused(ExitCode code, const std::string& words, const Work& work) {
  try {
    work();
    FAIL("taken, but for: " << words);
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.code() == code);
    CHECK(std::string(error.what()).find(words) != std::string::npos);
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
}

void run_ok(const std::vector<std::string>& words) {
  pyram::run_or_throw({words, {}, {}}, ExitCode::kFailed, "run " + words.front());
}

ino_t inode_of(const fs::path& file) {
  struct stat status {};
  REQUIRE(::stat(file.c_str(), &status) == 0);
  return status.st_ino;
}

}  // namespace

TEST_CASE("an app's image for this machine is taken, and everything else refused in one line") {
  const TemporaryDirectory directory;
  const fs::path nobody = directory / "trust.d";
  const fs::path good = app_image(directory, "good", app_manifest());
  const AppImage image = check_app_image(good, nobody);
  CHECK(image.application == "mysite.wsgi:application");
  CHECK(image.is_django);
  CHECK(image.built == "2023-11-14 22:13 UTC");
  CHECK(image.signature == "not signed");
  CHECK(version_of(image.digest).size() == 12);

  const auto refuse = [&](const std::string& name, const json& manifest, const char* words) {
    const fs::path file = app_image(directory, name, manifest);
    check_refused(ExitCode::kBadImage, words, [&] { (void)check_app_image(file, nobody); });
  };
  json other = app_manifest();
  other["python"]["platform"] = "linux-vax";
  refuse("vax", other, "is for 'linux-vax', and this machine is ");
  other = app_manifest();
  other["app"] = {{"kind", "script"}, {"script", "x.py"}};
  refuse("script", other, "has no application to serve");
  other.erase("app");
  refuse("none", other, "has no application to serve");
  other = app_manifest();
  other["python"] = 7;
  refuse("nonsense", other, "nonsense.sqfs");

  flip(good, 100);
  check_refused(ExitCode::kVerification, "is not what was made",
                [&] { (void)check_app_image(good, nobody); });
  pyram::write_file(good, "no image");
  check_refused(ExitCode::kBadImage, "it is", [&] { (void)check_app_image(good, nobody); });
  const fs::path bare = make_image(directory / "vax-tree", directory / "bare.sqfs");
  check_refused(ExitCode::kVerification, "it has no Merkle tree",
                [&] { (void)check_app_image(bare, nobody); });
  check_refused(ExitCode::kBadImage, "missing.sqfs",
                [&] { (void)check_app_image(directory / "missing.sqfs", nobody); });
}

TEST_CASE("where keys are trusted, only what one of them signed is taken") {
  const TemporaryDirectory directory;
  const fs::path trust = directory / "trust.d";
  fs::create_directory(trust);
  const fs::path image = app_image(directory, "site", app_manifest());
  for (const char* name : {"a", "b"}) {
    const std::string secret = (directory / (std::string(name) + ".key")).native();
    run_ok({"openssl", "genpkey", "-algorithm", "ed25519", "-out", secret});
    run_ok({"openssl", "pkey", "-in", secret, "-pubout", "-out",
            (directory / (std::string(name) + ".pem")).native()});
  }
  fs::copy(directory / "a.pem", trust / "a.pem");
  check_refused(ExitCode::kVerification, "is not signed",
                [&] { (void)check_app_image(image, trust); });
  (void)pyram::builder::sign_image(image, directory / "b.key");
  check_refused(ExitCode::kVerification, "is not signed by the key",
                [&] { (void)check_app_image(image, trust); });
  CHECK(check_app_image(image, directory / "none").signature.find("which was not checked") !=
        std::string::npos);
  fs::copy(directory / "b.pem", trust / "b.pem");
  CHECK(check_app_image(image, trust).signature.starts_with("signed by ed25519:"));
  pyram::write_file(trust / "a.pem", "no key");
  check_refused(ExitCode::kUsage, "a.pem", [&] { (void)check_app_image(image, trust); });
}

TEST_CASE("a site keeps each image once, by its digest, and two versions") {
  const TemporaryDirectory directory;
  for (const char* name : {"", "Site", "a/b", "..", "1a", "a.b", "abcdefghijklmnopqrstu"}) {
    check_refused(ExitCode::kUsage, "a site's name", [&] { const Site site(name); });
  }
  const Site site("my-site", directory / "apps");
  CHECK_FALSE(site.exists());
  site.create();
  std::vector<std::string> versions;
  for (const char* content : {"one", "two", "three"}) {
    const fs::path image = app_image(directory, content, app_manifest(), content);
    const Stored stored = site.store(image, check_app_image(image, {}).digest);
    CHECK(stored.is_new);
    versions.push_back(stored.version);
    CHECK(pyram::read_file(site.image(versions.back())) == pyram::read_file(image));
  }
  CHECK_FALSE(site.exists());
  site.point({versions[0], ""});
  site.point({versions[1], versions[0]});
  CHECK(site.versions().current == versions[1]);
  CHECK(site.versions().previous == versions[0]);
  CHECK(fs::canonical(site.directory() / "current.sqfs") == fs::canonical(site.image(versions[1])));
  site.prune();
  CHECK(fs::exists(site.image(versions[0])));
  CHECK_FALSE(fs::exists(site.image(versions[2])));

  // The same again is the same file, for which there may be a mount; one that is damaged is not.
  const fs::path image = directory / "one.sqfs";
  const std::string digest = check_app_image(image, {}).digest;
  const ino_t inode = inode_of(site.image(versions[0]));
  CHECK(site.store(image, digest).version == versions[0]);
  CHECK_FALSE(site.store(image, digest).is_new);
  CHECK(inode_of(site.image(versions[0])) == inode);
  flip(site.image(versions[0]), 100);
  CHECK(site.store(image, digest).is_new);
  CHECK(pyram::read_file(site.image(versions[0])) == pyram::read_file(image));
  check_refused(ExitCode::kVerification, "is not what was checked",
                [&] { (void)site.store(directory / "two.sqfs", "sha256:0123456789abcdef"); });
  CHECK_FALSE(fs::exists(site.image("0123456789ab")));

  const UniqueFd lock = site.lock();
  check_refused(ExitCode::kFailed, "another pyram-app is at work on my-site",
                [&] { (void)site.lock(); });
  site.remove();
  CHECK_FALSE(fs::exists(site.directory()));
}

TEST_CASE("no room for an image is one line, and leaves nothing") {
  if (!running_as_root()) PYRAM_SKIP("only root can mount a small file system");
  const TemporaryDirectory directory;
  const fs::path small = directory / "small";
  fs::create_directory(small);
  REQUIRE(::mount("pyram-test", small.c_str(), "tmpfs", 0, "size=1m") == 0);
  const Site site("site", small);
  site.create();
  const fs::path image = app_image(directory, "large", app_manifest(), noise(2 << 20));
  const std::string digest = check_app_image(image, {}).digest;
  check_refused(ExitCode::kCannotWrite, "make room there",
                [&] { (void)site.store(image, digest); });
  CHECK(fs::is_empty(site.directory()));
  CHECK(::umount(small.c_str()) == 0);
}

TEST_CASE("the service says how a reload ended") {
  const TemporaryDirectory directory;
  const fs::path path = directory / "control";
  check_refused(ExitCode::kFailed, "ask the service", [&] { ask_for_reload(path); });
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  const auto answer = [&](const std::string& text) {
    return Child::fork("answer", [&] {
      const UniqueFd client(::accept(listener.get(), nullptr, nullptr));
      pyram::write_full(client.get(), text, "the answer");
      return 0;
    });
  };
  {
    Child service = answer("ready\n");
    ask_for_reload(path);
    CHECK(service.wait() == 0);
  }
  {
    Child service = answer("failed: it\x1b[1m says why\n");
    check_refused(ExitCode::kFailed, "it\\x1b[1m says why", [&] { ask_for_reload(path); });
    CHECK(service.wait() == 0);
  }
  {
    Child service = answer("");
    check_refused(ExitCode::kFailed, "ended before it was ready", [&] { ask_for_reload(path); });
    CHECK(service.wait() == 0);
  }
}
