#include "tests/regression/counts.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "support/io.h"
#include "tests/support/catch.h"

namespace pyram::test {

namespace {

constexpr char kRecorded[] = PYRAM_TEST_SOURCE "/tests/regression/recorded.json";
constexpr double kTolerance = 0.25;
// Where a count is small, a request more or less is no news, nor is a block: the kernel may have
// been reading ahead when a start ended.
constexpr double kSlack = 8;
constexpr double kSlackBytes = 1 << 20;

}  // namespace

void check_count(const std::string& name, std::uint64_t count) {
  auto recorded = nlohmann::ordered_json::parse(read_file(kRecorded));
  if (std::getenv("PYRAM_RECORD_COUNTS") != nullptr) {
    recorded[name] = count;
    write_file(kRecorded, recorded.dump(2) + "\n");
    return;
  }
  INFO(name << ": recorded.json has no such count; PYRAM_RECORD_COUNTS=1 tests/run writes it");
  REQUIRE(recorded.contains(name));
  const auto expected = recorded[name].get<double>();
  const double highest = expected * (1 + kTolerance) +
                         (name.find("bytes") == std::string::npos ? kSlack : kSlackBytes);
  INFO(name << ": " << count << " where " << expected << " was recorded, at most " << highest
            << ". If the rise is meant, run it with PYRAM_RECORD_COUNTS=1 and say why");
  CHECK(static_cast<double>(count) <= highest);
}

}  // namespace pyram::test
