// What the environment says about how to start: PYRAM_BACKEND, PYRAM_CACHE_SIZE,
// PYRAM_IDLE_TIMEOUT, PYRAM_IMAGE, PYRAM_MEMORY. An empty variable counts as one that is not set.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace pyram::launcher {

// The ways to come by an image's content, in the order in which they are tried.
enum class Backend {
  kSystem,   // A mount of the same image that root registered.
  kUser,     // This user's mount, made by an earlier start.
  kFuse,     // A new FUSE mount (by fusermount3; directly where the user is root).
  kRoot,     // A new FUSE mount by the mount system call, and nothing else.
  kUserns,   // A new FUSE mount in a user namespace of this user's own.
  kExtract,  // All files unpacked into RAM.
};

inline constexpr std::array kBackends{Backend::kSystem, Backend::kUser,   Backend::kFuse,
                                      Backend::kRoot,   Backend::kUserns, Backend::kExtract};

[[nodiscard]] std::string_view name_of(Backend backend);

// What PyPy's garbage collector is set to (collector.h).
enum class Memory {
  kAuto,     // Smaller sizes where there is little memory.
  kSmall,    // As for 256 MiB of memory, however much there is.
  kDefault,  // PyPy's own.
};

[[nodiscard]] std::string_view name_of(Memory memory);

struct Settings {
  std::optional<Backend> backend;         // The only one to use, or any.
  std::optional<std::string> cache_size;  // As pyram-mount's --cache-size takes it.
  std::string idle_timeout = "900";       // Seconds, as pyram-mount's --idle-timeout takes them.
  std::optional<std::string> image;       // A name or a file.
  Memory memory = Memory::kAuto;

  [[nodiscard]] bool allows(Backend wanted) const { return !backend || *backend == wanted; }
};

// Throws Error (kUsage) about a value that makes no sense.
[[nodiscard]] Settings read_settings();

// An environment variable that is set and not empty.
[[nodiscard]] std::optional<std::string> environment_variable(const char* name);

}  // namespace pyram::launcher
