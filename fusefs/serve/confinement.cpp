#include "fusefs/serve/confinement.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <memory>

#include "support/capabilities.h"
#include "support/unique_fd.h"

namespace pyram {
namespace {

// The image, the connection, the control socket, one for the helper, some to spare.
constexpr rlim_t kMostDescriptors = 64;

bool set_limits() {
  constexpr rlimit kNoCore{0, 0};
  constexpr rlimit kDescriptors{kMostDescriptors, kMostDescriptors};
  return ::setrlimit(RLIMIT_CORE, &kNoCore) == 0 && ::setrlimit(RLIMIT_NOFILE, &kDescriptors) == 0;
}

// Debian 12's header knows less than newer kernels do: what each version of the interface handles.
struct LandlockRules {
  std::uint64_t files = 0;
  std::uint64_t network = 0;  // From version 4 on.
  std::uint64_t scopes = 0;   // From version 6 on.
};

bool restrict_by_landlock() {
  const long version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return false;
  constexpr unsigned kRightsOfVersion1 = 13;
  unsigned rights = kRightsOfVersion1;
  if (version >= 2) ++rights;  // Linking to other directories.
  if (version >= 3) ++rights;  // Truncating.
  if (version >= 5) ++rights;  // ioctl on devices.
  LandlockRules rules;
  rules.files = (std::uint64_t{1} << rights) - 1;
  std::size_t size = sizeof(rules.files);
  if (version >= 4) {
    rules.network = 3;  // Binding and connecting.
    size += sizeof(rules.network);
  }
  if (version >= 6) {
    // Abstract sockets. Not signals: the helper, which may be killed, is outside.
    rules.scopes = 1;
    size += sizeof(rules.scopes);
  }
  const UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rules, size, 0)));
  return ruleset && ::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) == 0;
}

// Instrumented programs make calls and open files of their own, to say what they found.
constexpr bool instrumented() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM)), &seccomp_release) {
    sound_ = context_ != nullptr;
  }

  // Calls that may be made with any arguments; unknown ones (on this machine) don't matter.
  template <std::size_t N>
  void allow(const std::array<int, N>& calls) {
    for (const int call : calls) {
      if (sound_ && seccomp_rule_add(context_.get(), SCMP_ACT_ALLOW, call, 0) != 0) sound_ = false;
    }
  }

  template <typename... Conditions>
  void allow_if(int call, Conditions... conditions) {
    add(SCMP_ACT_ALLOW, call, conditions...);
  }

  template <typename... Conditions>
  void add(std::uint32_t action, int call, Conditions... conditions) {
    const std::array<scmp_arg_cmp, sizeof...(Conditions)> all{conditions...};
    if (sound_ &&
        seccomp_rule_add_array(context_.get(), action, call, all.size(), all.data()) != 0) {
      sound_ = false;
    }
  }

  bool load() { return sound_ && seccomp_load(context_.get()) == 0; }

 private:
  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  bool sound_ = false;
};

scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}

// Of an argument, only the bits in `mask` are looked at.
scmp_arg_cmp bits(unsigned argument, std::uint64_t mask, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

bool filter_calls(const ConfinementNeeds& needs) {
  Filter filter;
  filter.allow(std::array{// The image, the connection, the control socket.
                          SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev),
                          SCMP_SYS(pread64), SCMP_SYS(fadvise64), SCMP_SYS(lseek), SCMP_SYS(close),
                          SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(fstat),
                          // Memory.
                          SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
                          // Threads and signals among them.
                          SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq),
                          SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(gettid),
                          SCMP_SYS(getpid), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
                          SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall),
                          SCMP_SYS(exit), SCMP_SYS(exit_group),
                          // Time, random numbers, process and user ids.
                          SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(nanosleep),
                          SCMP_SYS(clock_nanosleep), SCMP_SYS(getrandom), SCMP_SYS(geteuid)});
  // Nothing becomes a program.
  filter.allow_if(SCMP_SYS(mmap), bits(2, PROT_EXEC, 0));
  filter.allow_if(SCMP_SYS(mprotect), bits(2, PROT_EXEC, 0));
  // Threads, but no processes. What clone3 is asked for can't be seen: the C library then takes
  // clone.
  constexpr std::uint64_t kThread = CLONE_VM | CLONE_THREAD;
  filter.allow_if(SCMP_SYS(clone), bits(0, kThread, kThread));
  filter.add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  // fstat, but not newfstatat, by which some C libraries make it: whether that gets a path, a
  // filter can't see. Sizes are looked at before.
  filter.allow_if(SCMP_SYS(tgkill), equals(0, static_cast<std::uint64_t>(::getpid())));
  if (needs.helper > 0) {
    const auto helper = static_cast<std::uint32_t>(needs.helper);
    filter.allow_if(SCMP_SYS(kill), equals(0, helper), equals(1, SIGKILL));
    // By its pidfd, or by its number where the kernel has no pidfds. It is the only child.
    constexpr std::uint64_t kByDescriptor = 3;  // P_PIDFD: newer than some C libraries.
    filter.allow_if(SCMP_SYS(waitid), equals(0, kByDescriptor));
    filter.allow_if(SCMP_SYS(waitid), equals(0, P_PID), bits(1, 0xffffffff, helper));
    // To its socket, which is connected: no other socket can be addressed.
    filter.allow_if(SCMP_SYS(sendto), equals(4, 0));
    filter.allow_if(SCMP_SYS(recvfrom), equals(4, 0));
  }
  return filter.load();
}

}  // namespace

std::string confine(const ConfinementNeeds& needs) {
  if (instrumented()) return "none";
  std::string held;
  const auto note = [&held](const char* name, bool holds) {
    if (holds) held.append(held.empty() ? "" : ",").append(name);
  };
  note("limits", set_limits());
  note("no_core", ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
  note("capabilities", drop_capabilities());
  note("no_new_privs", ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  note("landlock", restrict_by_landlock());
  note("seccomp", filter_calls(needs));
  return held;
}

}  // namespace pyram
