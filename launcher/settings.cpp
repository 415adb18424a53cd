#include "launcher/settings.h"

#include <algorithm>
#include <cstdlib>

#include "support/error.h"

namespace pyram::launcher {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 9 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// As pyram-mount takes it: a number, and perhaps K, M or G (KB, KiB).
bool is_size(std::string_view text) {
  const std::size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  return is_number(text.substr(0, end)) && text.size() - end <= 3 &&
         text.find_first_not_of("kKmMgGiIbB", end) == std::string_view::npos;
}

Backend backend_named(std::string_view name) {
  std::string known;
  for (const Backend backend : kBackends) {
    if (name == name_of(backend)) return backend;
    known.append(known.empty() ? "" : ", ").append(name_of(backend));
  }
  throw Error(ExitCode::kUsage,
              "unknown way to mount PYRAM_BACKEND=" + quote(name) + "; it may be one of " + known);
}

Memory memory_named(std::string_view name) {
  for (const Memory memory : {Memory::kAuto, Memory::kSmall, Memory::kDefault}) {
    if (name == name_of(memory)) return memory;
  }
  throw Error(ExitCode::kUsage,
              "cannot use PYRAM_MEMORY=" + quote(name) + "; it may be one of auto, small, default");
}

}  // namespace

std::string_view name_of(Backend backend) {
  switch (backend) {
    case Backend::kSystem:
      return "system";
    case Backend::kUser:
      return "user";
    case Backend::kFuse:
      return "fuse";
    case Backend::kRoot:
      return "root";
    case Backend::kUserns:
      return "userns";
    case Backend::kExtract:
      return "extract";
  }
  return "";
}

std::string_view name_of(Memory memory) {
  switch (memory) {
    case Memory::kAuto:
      return "auto";
    case Memory::kSmall:
      return "small";
    case Memory::kDefault:
      return "default";
  }
  return "";
}

std::optional<std::string> environment_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

Settings read_settings() {
  Settings settings;
  if (const auto name = environment_variable("PYRAM_BACKEND")) {
    settings.backend = backend_named(*name);
  }
  settings.cache_size = environment_variable("PYRAM_CACHE_SIZE");
  if (settings.cache_size && !is_size(*settings.cache_size)) {
    throw Error(ExitCode::kUsage, "cannot use PYRAM_CACHE_SIZE=" + quote(*settings.cache_size) +
                                      "; it is a number of bytes, or one with K, M or G (16M)");
  }
  if (const auto seconds = environment_variable("PYRAM_IDLE_TIMEOUT")) {
    if (!is_number(*seconds)) {
      throw Error(ExitCode::kUsage, "cannot use PYRAM_IDLE_TIMEOUT=" + quote(*seconds) +
                                        "; it is a number of seconds, 0 for never");
    }
    settings.idle_timeout = *seconds;
  }
  settings.image = environment_variable("PYRAM_IMAGE");
  if (const auto name = environment_variable("PYRAM_MEMORY")) settings.memory = memory_named(*name);
  return settings;
}

}  // namespace pyram::launcher
