// Times as people and other programs read them, in UTC.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>

namespace pyram {

// `seconds` since 1970 by a format of strftime(); `otherwise` where no calendar has that time.
[[nodiscard]] inline std::string utc_text(std::int64_t seconds, const char* format,
                                          const char* otherwise) {
  const std::time_t time = seconds;
  std::tm parts{};
  char text[32];
  if (::gmtime_r(&time, &parts) == nullptr) return otherwise;
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

// "2026-11-26 07:00 UTC", or "?".
[[nodiscard]] inline std::string time_for_people(std::int64_t seconds) {
  return utc_text(seconds, "%Y-%m-%d %H:%M UTC", "?");
}

// "2026-11-26T07:00:00Z".
[[nodiscard]] inline std::string iso_time(std::int64_t seconds, const char* otherwise) {
  return utc_text(seconds, "%Y-%m-%dT%H:%M:%SZ", otherwise);
}

}  // namespace pyram
