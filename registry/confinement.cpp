#include "registry/confinement.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "registry/credentials.h"
#include "support/capabilities.h"
#include "support/unique_fd.h"

namespace pyram::registry {
namespace {

// Debian 12's header does not know it.
constexpr std::uint64_t kTruncate = std::uint64_t{1} << 14;

void restrict_writing(const std::vector<std::filesystem::path>& writable) {
  const long version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  // The first one forbids every renaming from one directory to another.
  if (version < 2) return;
  std::uint64_t writing =
      LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
      LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
      LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
      LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) writing |= kTruncate;
  landlock_ruleset_attr rules{};
  rules.handled_access_fs = writing | LANDLOCK_ACCESS_FS_EXECUTE;
  const UniqueFd ruleset(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0)));
  if (!ruleset) return;
  for (const auto& directory : writable) {
    const UniqueFd place(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    landlock_path_beneath_attr rule{};
    rule.allowed_access = writing;
    rule.parent_fd = place.get();
    if (!place || ::syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &rule,
                            0) != 0) {
      return;
    }
  }
  ::syscall(SYS_landlock_restrict_self, ruleset.get(), 0);
}

}  // namespace

void confine_fetcher(const std::vector<std::filesystem::path>& writable) {
  constexpr rlimit kNoCore{0, 0};
  ::setrlimit(RLIMIT_CORE, &kNoCore);
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  (void)drop_capabilities();
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  // A program that keeps credentials has to run, and may write where it wants.
  if (!asks_programs()) restrict_writing(writable);
}

}  // namespace pyram::registry
