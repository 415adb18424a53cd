// Merkle trees and signatures of whole images, checked by other people's programs where there are
// some.
#include <sys/mount.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/error.h"
#include "support/io.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"
#include "tests/support/image.h"

namespace fs = std::filesystem;
using namespace pyram::test;
using pyram::ExitCode;
using pyram::Outcome;

namespace {

Outcome pyram_image(std::vector<std::string> words) {
  words.insert(words.begin(), program("pyram-image"));
  return pyram::run({std::move(words), {}, {}});
}

void run_ok(const std::vector<std::string>& words) {
  pyram::run_or_throw({words, {}, {}}, ExitCode::kFailed, "run " + words.front());
}

struct Keys {
  explicit Keys(const TemporaryDirectory& directory, const std::string& name = "key")
      : secret((directory / (name + ".pem")).native()),
        open((directory / (name + ".pub")).native()) {
    run_ok({"openssl", "genpkey", "-algorithm", "ed25519", "-out", secret});
    run_ok({"openssl", "pkey", "-in", secret, "-pubout", "-out", open});
  }
  std::string secret;
  std::string open;
};

// An image without a trailer.
std::string bare_image(const TemporaryDirectory& directory) {
  fs::create_directories(directory / "tree/sub");
  std::ofstream(directory / "tree/sub/file") << "hello\n";
  std::ofstream noise(directory / "tree/noise");
  for (int i = 0; i < 200000; ++i) noise << i * 7919 % 104729;
  noise.close();
  const std::string image = (directory / "x.sqfs").native();
  run_ok({"mksquashfs", (directory / "tree").native(), image, "-quiet", "-no-progress"});
  return image;
}

}  // namespace

TEST_CASE("a built image has a Merkle tree, is signed by its key, and any changed byte is seen") {
  const TemporaryDirectory directory;
  const Keys keys(directory);
  const Keys others(directory, "other");
  const fs::path prefix = small_pypy(directory);
  const std::string image = (directory / "x.sqfs").native();
  const Outcome built =
      pyram::run(pyram::test::build(prefix, image, {"--no-train", "--sign", keys.secret}));
  INFO(built.errors);
  REQUIRE(built.ok());
  const auto info = nlohmann::json::parse(pyram_image({"info", "--json", image}).output);
  const std::string digest = info["image"]["digest"];
  CHECK(built.output.find(digest) != std::string::npos);
  CHECK(pyram_image({"info", image}).output.find(digest) != std::string::npos);

  Outcome said = pyram_image({"verify", image});
  CHECK(said.ok());
  CHECK(said.output.find(digest) != std::string::npos);
  said = pyram_image({"verify", image, "--key", keys.open});
  CHECK(said.ok());
  CHECK(said.output.find("signed by " + info["image"]["signed_by"].get<std::string>()) !=
        std::string::npos);
  check_failure(pyram_image({"verify", image, "--key", others.open}), ExitCode::kVerification,
                "not signed by the key");
  check_failure(pyram_image({"verify", image, "--key", keys.secret}), ExitCode::kUsage,
                "no Ed25519 public key");

  // fs-verity's own program says the same of the same bytes.
  const auto size = info["image"]["squashfs_size"].get<std::uint64_t>();
  const std::uint64_t covered = (size + 4095) / 4096 * 4096;
  fs::copy_file(image, directory / "covered");
  fs::resize_file(directory / "covered", covered);
  const Outcome theirs =
      pyram::run({{"fsverity", "digest", "--compact", (directory / "covered").native()}, {}, {}});
  CHECK("sha256:" + theirs.output.substr(0, 64) == digest);

  const std::uint64_t end = fs::file_size(image);
  for (const std::uint64_t at : {std::uint64_t{100}, covered / 2, covered - 1, covered + 300,
                                 covered + 330, covered + 4096, end - 5000}) {
    INFO(at);
    flip(image, at);
    check_failure(pyram_image({"verify", image, "--key", keys.open}), ExitCode::kVerification, "");
    flip(image, at);
  }
  CHECK(pyram_image({"verify", image, "--key", keys.open}).ok());
  fs::resize_file(image, static_cast<std::uintmax_t>(end) - 1);
  check_failure(pyram_image({"verify", image}), ExitCode::kBadImage, "");
}

TEST_CASE("an image is signed afterwards, as a whole or not at all") {
  const TemporaryDirectory directory;
  const Keys keys(directory);
  const Keys others(directory, "other");
  const std::string image = bare_image(directory);
  check_failure(pyram_image({"verify", image}), ExitCode::kVerification, "no Merkle tree");
  check_failure(pyram_image({"sign", image + "-missing", "--key", keys.secret}),
                ExitCode::kBadImage, "x.sqfs-missing");
  REQUIRE(pyram_image({"sign", image, "--key", keys.secret}).ok());
  CHECK(pyram_image({"verify", image, "--key", keys.open}).ok());
  const std::string first = pyram::read_file(image);
  // Signing again is the same; another key takes the place of the first.
  REQUIRE(pyram_image({"sign", image, "--key", keys.secret}).ok());
  CHECK((pyram::read_file(image) == first));
  REQUIRE(pyram_image({"sign", image, "--key", others.secret}).ok());
  CHECK(pyram_image({"verify", image, "--key", others.open}).ok());
  check_failure(pyram_image({"verify", image, "--key", keys.open}), ExitCode::kVerification, "");

  SECTION("a changed image is not signed") {
    flip(image, 200);
    const std::string changed = pyram::read_file(image);
    check_failure(pyram_image({"sign", image, "--key", keys.secret}), ExitCode::kVerification, "");
    CHECK((pyram::read_file(image) == changed));
  }
  SECTION("a key of another kind") {
    run_ok({"openssl", "genpkey", "-algorithm", "x25519", "-out", (directory / "x.pem").native()});
    check_failure(pyram_image({"sign", image, "--key", (directory / "x.pem").native()}),
                  ExitCode::kUsage, "no Ed25519 private key");
    std::ofstream(directory / "text") << "no key\n";
    check_failure(pyram_image({"sign", image, "--key", (directory / "text").native()}),
                  ExitCode::kUsage, "no Ed25519 private key");
    check_failure(pyram_image({"build", "-o", (directory / "y.sqfs").native(), "--sign",
                               (directory / "text").native()}),
                  ExitCode::kUsage, "no Ed25519 private key");
  }
  CHECK(entries_in(directory.path()) >= 6);
  for (const fs::directory_entry& entry : fs::directory_iterator(directory.path())) {
    CHECK_FALSE(entry.path().filename().native().starts_with("."));
  }
}

TEST_CASE("an image with a trailer is read by everybody who reads SquashFS") {
  const TemporaryDirectory directory;
  const Keys keys(directory);
  const std::string image = bare_image(directory);
  REQUIRE(pyram_image({"sign", image, "--key", keys.secret}).ok());
  const auto same = [&](const fs::path& tree) {
    return pyram::run({{"diff", "-r", (directory / "tree").native(), tree.native()}, {}, {}}).ok();
  };
  run_ok({"unsquashfs", "-quiet", "-no-progress", "-dest", (directory / "out").native(), image});
  CHECK(same(directory / "out"));
  const std::string mounted = (directory / "mounted").native();
  fs::create_directories(mounted);
  SECTION("pyram-mount") {
    run_ok({program("pyram-mount"), image, mounted});
    CHECK(same(mounted));
    run_ok({program("pyram-mount"), "--unmount", mounted});
  }
  SECTION("squashfuse_ll") {
    run_ok({"squashfuse_ll", image, mounted});
    CHECK(same(mounted));
    run_ok({"fusermount3", "-u", mounted});
  }
  SECTION("the kernel") {
    if (!running_as_root()) PYRAM_SKIP("a loop mount needs root");
    const Outcome outcome =
        pyram::run({{"mount", "-t", "squashfs", "-o", "loop,ro", image, mounted}, {}, {}});
    if (!outcome.ok()) PYRAM_SKIP("no loop mount here: " + outcome.last_line());
    CHECK(same(mounted));
    REQUIRE(::umount(mounted.c_str()) == 0);
  }
}
