// Names of images in registries: what is one, and that none leads out of a store.
#include "support/image_reference.h"

#include "tests/support/catch.h"

using pyram::parse_image_reference;

namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

}  // namespace

TEST_CASE("a reference is taken apart") {
  const auto plain = parse_image_reference("ghcr.io/team/site");
  REQUIRE(plain);
  CHECK(plain->host == "ghcr.io");
  CHECK(plain->repository == "team/site");
  CHECK(plain->tag == "latest");
  CHECK(plain->digest.empty());
  const std::string text = "localhost:5000/site:1.2@" + kDigest;
  const auto full = parse_image_reference(text);
  REQUIRE(full);
  CHECK(full->host == "localhost:5000");
  CHECK(full->repository == "site");
  CHECK(full->tag == "1.2");
  CHECK(full->digest == kDigest);
  CHECK(pyram::name_in_store(*full) == "names/localhost:5000/site@" + kDigest);
  CHECK(pyram::name_in_store(*plain) == "names/ghcr.io/team/site:latest");
  CHECK(parse_image_reference("[::1]:5000/a__b/c--d/e.f:T_1"));
  CHECK(parse_image_reference("localhost/x")->host == "localhost");
}

TEST_CASE("what is no reference, or would lead out of a store") {
  for (const std::string& text : {std::string(),
                                  std::string("default"),
                                  std::string("images/x.sqfs"),
                                  std::string("./x.y/z"),
                                  std::string("../a.b/c"),
                                  std::string("/a.b/c"),
                                  std::string("a.b/../c"),
                                  std::string("a.b/c/.."),
                                  std::string("a.b//c"),
                                  std::string("a.b/c/"),
                                  std::string("a.b/C"),
                                  std::string("a.b/c:"),
                                  std::string("a.b/c:.."),
                                  std::string("a.b/c:x/y"),
                                  std::string("a.b/c@sha256:1"),
                                  std::string("a.b/c@") + kDigest + "0",
                                  std::string("a.b/c:1 "),
                                  std::string("..:1/c"),
                                  std::string("a.b:/c"),
                                  std::string("a.b:port/c"),
                                  std::string("[::1/c"),
                                  std::string("a.b/c\n"),
                                  std::string("a.b/") + std::string(300, 'c'),
                                  "a.b/c:" + std::string(200, '1'),
                                  std::string("host/c"),
                                  std::string("a.b/.c"),
                                  std::string("https://a.b/c")}) {
    INFO(text);
    CHECK_FALSE(parse_image_reference(text));
  }
}
