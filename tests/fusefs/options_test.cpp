// pyram-mount's command line: every way of writing an option, and what is no option.
#include "fusefs/cli/options.h"

#include <optional>
#include <string>
#include <vector>

#include "support/error.h"
#include "tests/support/catch.h"

using pyram::Action;
using pyram::Options;

namespace {

std::optional<Options> parse(std::vector<const char*> words, const char* program = "pyram-mount") {
  words.insert(words.begin(), program);
  return pyram::parse_options(static_cast<int>(words.size()), words.data());
}

// What is said of a command line that makes no sense.
std::string refusal(const std::vector<const char*>& words) {
  try {
    static_cast<void>(parse(words));
  } catch (const pyram::Error& error) {
    CHECK(error.code() == pyram::ExitCode::kUsage);
    return error.what();
  }
  return "it was accepted";
}

}  // namespace

TEST_CASE("options may stand anywhere, and have their value in the same word or in the next") {
  const auto words = GENERATE(
      std::vector<const char*>{"--threads", "4", "-o", "uid=5,offset=96", "-f", "-s", "a", "b"},
      std::vector<const char*>{"a", "--threads=4", "b", "-ouid=5", "-sfo", "offset=96"},
      std::vector<const char*>{"-fsouid=5", "--threads=4", "-o", ",offset=96,", "--", "a", "b"});
  const auto options = parse(words);
  REQUIRE(options);
  CHECK(options->action == Action::kMount);
  CHECK(options->image == "a");
  CHECK(options->mount_point == "b");
  CHECK(options->threads == 1);  // -s
  CHECK(options->foreground);
  CHECK(options->uid == 5U);
  CHECK(options->offset == 96);
}

TEST_CASE("what the launcher and a supervisor write is understood") {
  const auto options = parse({"--worker", "1", "--ready-fd", "3", "--idle-timeout", "900", "-o",
                              "allow_other", "--cache-size", "16M", "--", "-image", "-directory"});
  REQUIRE(options);
  CHECK(options->action == Action::kWork);
  CHECK(options->ready_fd == 3);
  CHECK(options->idle_timeout == 900);
  CHECK(options->allow_other);
  CHECK(options->cache_size == 16U << 20);
  CHECK(options->image == "-image");
  CHECK(options->mount_point == "-directory");
}

TEST_CASE("a size may have a unit") {
  struct Size {
    const char* text;
    std::size_t bytes;
  };
  const auto size = GENERATE(Size{"65536", 65536}, Size{"65536b", 65536}, Size{"64k", 65536},
                             Size{"64KB", 65536}, Size{"64KiB", 65536}, Size{"1m", 1U << 20},
                             Size{"2Gi", std::size_t{2} << 30}, Size{"1T", std::size_t{1} << 40});
  CHECK(parse({"--cache-size", size.text, "a", "b"})->cache_size == size.bytes);
}

TEST_CASE("one directory is enough for what talks to a daemon") {
  CHECK(parse({"--status", "m"})->action == Action::kStatus);
  CHECK(parse({"--status", "m"})->status_format == pyram::StatusFormat::kSummary);
  CHECK(parse({"--status", "m", "--all"})->status_format == pyram::StatusFormat::kText);
  CHECK(parse({"m", "--unmount"})->action == Action::kUnmount);
  CHECK(parse({"--reload", "m"})->mount_point == "m");
  CHECK(parse({"--status", "--format", "json", "m"})->status_format == pyram::StatusFormat::kJson);
}

TEST_CASE("mount(8) calls a helper with letters of its own") {
  const auto options = parse({"a", "b", "-sv", "-t", "fuse.pyram", "-o", "rw,noatime,allow_root"},
                             "/sbin/mount.pyram");
  REQUIRE(options);
  CHECK(options->threads == 0);
  CHECK(options->allow_root);
  CHECK_FALSE(parse({"a", "b", "-f"}, "mount.fuse.pyram"));
}

TEST_CASE("each command line that makes no sense is refused with what is wrong") {
  struct Refused {
    std::vector<const char*> words;
    const char* why;
  };
  const auto refused = GENERATE(
      Refused{{}, "an image and a mount point are needed"},
      Refused{{"a", "b", "c"}, "an image and a mount point are needed"},
      Refused{{"--status"}, "exactly one mount point is needed"},
      Refused{{"--status", "--unmount", "m"}, "exclude each other"},
      Refused{{"--none", "a", "b"}, "unknown option '--none'; see"},
      Refused{{"--thread", "4", "a", "b"}, "unknown option '--thread' (did you mean --threads?)"},
      Refused{{"-fx", "a", "b"}, "unknown option '-x'"},
      Refused{{"--chace-size=1M", "a", "b"}, "(did you mean --cache-size?)"},
      Refused{{"a", "b", "-o", "alow_other"}, "'alow_other' (did you mean allow_other?)"},
      Refused{{"--verify=yes", "a", "b"}, "--verify takes no value"},
      Refused{{"a", "b", "--threads"}, "--threads needs a value, N"},
      Refused{{"a", "b", "-o"}, "-o needs a value, OPT,..."},
      Refused{{"--threads", "0", "a", "b"}, "--threads needs a number from 1 to 64, not '0'"},
      Refused{{"--threads", "", "a", "b"}, "from 1 to 64, not ''"},
      Refused{{"--threads", "65", "a", "b"}, "from 1 to 64"},
      Refused{{"--threads", "4", "--threads", "4", "a", "b"}, "--threads is given twice"},
      Refused{{"--idle-timeout", "-1", "a", "b"}, "--idle-timeout needs a number"},
      Refused{{"--ready-fd", "x", "a", "b"}, "--ready-fd needs a number"},
      Refused{{"--cache-size", "4X", "a", "b"}, "perhaps with K, M or G, not '4X'"},
      Refused{{"--cache-size", "bb", "a", "b"}, "perhaps with K, M or G"},
      Refused{{"--cache-size", "1K", "a", "b"}, "'1K' is not in the range of 64K to 1T"},
      Refused{{"--cache-size", "99999999999E", "a", "b"}, "is not in the range"},
      Refused{{"--prefetch", "warm", "a", "b"}, "--prefetch is one of none, hot, all, not 'warm'"},
      Refused{{"--status", "--format", "xml", "m"}, "--format is one of text, json, prometheus"},
      Refused{{"--worker", "0", "a", "b"}, "--worker is for pyram-mount's own use"},
      Refused{{"--worker", "1", "--status", "m"}, "--worker is for pyram-mount's own use"});
  const std::string why = refusal(refused.words);
  INFO(why);
  CHECK(why.find(refused.why) != std::string::npos);
  CHECK(why.ends_with("; see pyram-mount --help"));
}
