// How much the daemon says when everything fails.
#include "fusefs/log.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

using pyram::Log;

TEST_CASE("a log that left errors out says how many, and goes on") {
  Log::Clock::time_point now{};
  std::vector<std::string> lines;
  Log log([&](std::string_view line, bool) { lines.emplace_back(line); }, [&now] { return now; });
  for (int i = 0; i < Log::kBurst + 7; ++i) log.error("bad");
  CHECK(lines.size() == Log::kBurst);
  CHECK(log.leaves_out());
  log.info("news");
  CHECK(lines.back() == "news");

  lines.clear();
  now += Log::kInterval;
  CHECK_FALSE(log.leaves_out());
  log.error("worse");
  CHECK(lines == std::vector<std::string>{"8 errors before this one were left out", "worse"});
  log.error("worst");
  CHECK(lines.size() == 2);

  // After a quiet time as many as at first, and no more.
  lines.clear();
  now += 10 * Log::kBurst * Log::kInterval;
  for (int i = 0; i < Log::kBurst + 1; ++i) log.error("bad");
  CHECK(lines.size() == Log::kBurst + 1);
  CHECK(lines.front() == "1 errors before this one were left out");
}
