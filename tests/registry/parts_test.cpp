// What comes from a server is taken apart: headers, addresses, manifests. None of it is trusted.
#include "registry/artifact.h"
#include "registry/download.h"
#include "registry/fetch_queue.h"
#include "registry/session.h"
#include "support/error.h"
#include "tests/support/catch.h"

using namespace pyram::registry;

namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string layer(const std::string& more = "") {
  return R"({"mediaType": "x", "digest": ")" + kDigest + R"(", "size": 5)" + more + "}";
}

}  // namespace

TEST_CASE("ranges that a server says it sends") {
  const auto range = parse_content_range("bytes 5-9/10");
  REQUIRE(range);
  CHECK(range->first == 5);
  CHECK(range->last == 9);
  CHECK(range->total == 10);
  CHECK(parse_content_range("bytes 5-9/*"));
  for (const char* text : {"", "bytes", "bytes 5-9", "bytes 9-5/10", "bytes 5-10/10", "bytes -5/10",
                           "bytes 5-/10", "bytes */10", "items 5-9/10", "bytes 5-9/10 ",
                           "bytes 5/10-9", "bytes 99999999999999999999-1/2"}) {
    INFO(text);
    CHECK_FALSE(parse_content_range(text));
  }
}

TEST_CASE("what a challenge asks for") {
  const std::string text =
      R"(Bearer realm="https://a.b/token?x=1,2",service="a.b", scope="repository:x:pull,push")";
  CHECK(challenge_parameter(text, "realm") == "https://a.b/token?x=1,2");
  CHECK(challenge_parameter(text, "service") == "a.b");
  CHECK(challenge_parameter(text, "scope") == "repository:x:pull,push");
  CHECK(challenge_parameter(text, "error").empty());
  CHECK(challenge_parameter("Bearer REALM=x", "realm") == "x");
  for (const char* broken : {"", "Bearer", "Bearer ", "Bearer realm", "Bearer =", "Bearer realm=\"",
                             "Bearer ,,,", "Bearer realm=\"x"}) {
    INFO(broken);
    CHECK(challenge_parameter(broken, "service").empty());
  }
}

TEST_CASE("addresses that a server leads to") {
  CHECK(resolve_url("https://a.b/v2/x", "/y?z=1") == "https://a.b/y?z=1");
  CHECK(resolve_url("https://a.b/v2/x", "https://c.d/y") == "https://c.d/y");
  CHECK(resolve_url("http://a.b/v2/x", "https://c.d/y") == "https://c.d/y");
  for (const char* given : {"http://a.b/y", "file:///etc/passwd", "ftp://a.b/", "https://"}) {
    INFO(given);
    CHECK_THROWS_AS(resolve_url("https://a.b/v2/x", given), TransferError);
  }
  CHECK(host_of("https://a.b:5/x") == "a.b:5");
  CHECK(host_of("https://a.b/x") == "a.b");
  CHECK(shown("https://a.b/x?signature=secret").find("secret") == std::string::npos);
}

TEST_CASE("a manifest is what it was made of, or refused") {
  const Artifact made{.type = kImageType,
                      .layers = {{.media_type = kLayerType, .digest = kDigest, .size = 7}},
                      .subject = describe("subject", kManifestType),
                      .annotations = {{"a", "b"}}};
  const Artifact read = parse_artifact(format_artifact(made), "x");
  CHECK(read.type == made.type);
  REQUIRE(read.layers.size() == 1);
  CHECK(read.layers[0].media_type == kLayerType);
  CHECK(read.layers[0].size == 7);
  CHECK(read.subject->digest == made.subject->digest);
  CHECK(read.annotations == made.annotations);
  CHECK(format_artifact(read) == format_artifact(made));
  CHECK_FALSE(is_index(format_artifact(made), "x"));

  const auto entries = parse_index(
      format_index({{.media_type = kManifestType, .digest = kDigest, .architecture = "arm64"}}, {}),
      "x");
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].architecture == "arm64");

  const std::string deep = std::string(100000, '[');
  for (const std::string& text :
       {std::string(), std::string("null"), std::string("[]"), std::string("{}"), deep,
        std::string(R"({"layers": 1})"), std::string(R"({"layers": [1]})"),
        std::string(R"({"layers": [{}]})"), std::string(R"({"layers": [)" + layer() + "}"),
        R"({"layers": [{"digest": ")" + kDigest + R"(", "size": -1}]})",
        R"({"layers": [{"digest": ")" + kDigest + R"(", "size": 1.5}]})",
        R"({"layers": [{"digest": ")" + kDigest + R"(", "size": 18446744073709551615}]})",
        std::string(R"({"layers": [{"digest": "sha256:../../x", "size": 1}]})"),
        R"({"layers": [)" + layer() + R"(], "subject": 1})"}) {
    INFO(text.substr(0, 100));
    CHECK_THROWS_AS(parse_artifact(text, "x"), pyram::Error);
  }
  // What nobody needs may have any form.
  CHECK(parse_artifact(R"({"artifactType": 1, "annotations": [], "layers": [)" +
                           layer(R"(, "annotations": {"a": 1}, "platform": "x")") + "]}",
                       "x")
            .type.empty());
}

TEST_CASE("what is fetched first") {
  using Why = Run::Why;
  FetchQueue queue(std::vector<bool>(60, false));
  const auto next = [&](Why last, std::uint32_t first, std::uint32_t count, Why why) {
    const auto run = queue.take(last);
    REQUIRE(run);
    INFO("chunk " << run->first);
    CHECK(run->first == first);
    CHECK(run->count == count);
    CHECK(run->why == why);
    return *run;
  };
  queue.announce(40, 2);
  queue.set_order({10, 11}, {20});
  queue.announce(11, 2);   // The first one of these is known to be hot.
  queue.announce(58, 90);  // More than there is.
  queue.announce(90, 1);
  next(Why::kBackground, 10, 3, Why::kHot);
  queue.want(30, 1);
  next(Why::kWanted, 30, 1, Why::kWanted);
  const Run announced = next(Why::kBackground, 40, 2, Why::kHot);
  queue.set_here(40);
  queue.give_back(announced);
  next(Why::kHot, 58, 1, Why::kHot);
  next(Why::kHot, 59, 1, Why::kHot);  // What is behind the data comes by itself.
  next(Why::kBackground, 41, 1, Why::kHot);
  queue.want(50, 1);
  queue.want(52, 1);
  queue.give_back(next(Why::kWanted, 50, 1, Why::kWanted));
  next(Why::kWanted, 52, 1, Why::kWanted);
  next(Why::kWanted, 50, 1, Why::kWanted);
  next(Why::kBackground, 20, 8, Why::kBackground);
  next(Why::kBackground, 0, 8, Why::kBackground);
}
