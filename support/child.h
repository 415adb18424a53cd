// Child processes: how one starts, becomes another program and is waited for.
//
//   const int status = Child::fork("run the trial", [&] { return run_trial(); }).wait();
//   Child child = Child::start({.arguments = {"/bin/true"}});
//
// process.h runs commands and captures their output with this. Here is only what the launcher can
// afford as well: no streams, no std::filesystem.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/unique_fd.h"

namespace pyram {

// Makes the kernel keep the exit codes of children for as long as this lives.
//
// SIGCHLD may be ignored, as the parent left it (some wrappers like nohup, some init processes of
// containers). Then the kernel forgets each child when it ends, waits fail with ECHILD, and the
// child's number may be given out again. So SIGCHLD gets its default disposition, and is ignored
// again at the end: a program that this process becomes later inherits what the parent meant.
//
// Every Child has one. Where the lives of several Child objects overlap, one of these must live
// longer than all of them, or the first that goes would have SIGCHLD ignored too early. Changes the
// whole process, and only where SIGCHLD is ignored: a program with threads calls reset_signals()
// (signal_reset.h) first.
class KeptChildren {
 public:
  KeptChildren() noexcept;
  KeptChildren(KeptChildren&& other) noexcept : ignored_(std::exchange(other.ignored_, false)) {}
  KeptChildren& operator=(KeptChildren&&) = delete;
  ~KeptChildren() { restore(); }
  // What the destructor does, at once. For a new child, which inherits the disposition.
  void restore() noexcept;

 private:
  bool ignored_ = false;  // We found SIGCHLD ignored and have to put that back.
};

// A descriptor that a program gets: `to` becomes a copy of our `from`.
struct DescriptorCopy {
  static constexpr int kNull = -1;  // /dev/null, for reading and writing.
  int from = kNull;
  int to = -1;
};

// What a child becomes.
struct Program {
  std::vector<std::string> arguments;
  std::string path{};                                     // arguments[0] when empty; not PATH.
  std::optional<std::vector<std::string>> environment{};  // "NAME=value"; ours when not given.
  std::string directory{};                                // Where it runs; ours when empty.
  std::vector<DescriptorCopy> descriptors{};              // In any order; each `to` once.
  bool closes_others = false;  // It gets none of ours but 0, 1, 2 and those above.
  bool resets_signals = false;
};

// Puts descriptors where a program expects them, in a child. Between fork and exec no memory may be
// asked for where other threads could have held a lock: so all is prepared before.
class DescriptorMap {
 public:
  // Each `to` once; in any order.
  explicit DescriptorMap(std::vector<DescriptorCopy> copies);
  // To be called in a child, once. `closes_others`: exec closes all descriptors above the standard
  // ones that are no copy. Returns errno's value when something failed, else 0.
  [[nodiscard]] int apply(bool closes_others) noexcept;
  // Moves a descriptor that the map doesn't know of to where it is not in its way. In a child.
  void move_away(int& fd) const noexcept;
  // Above every descriptor that is a copy, and above the standard ones.
  [[nodiscard]] int first_free() const noexcept { return first_free_; }

 private:
  std::vector<DescriptorCopy> copies_;
  int first_free_ = 3;
};

// A program, ready for exec: between fork and exec no memory may be asked for where other threads
// could have held a lock. `program` must outlive it and stay as it is.
class PreparedProgram {
 public:
  explicit PreparedProgram(const Program& program);
  // To be called in a child. Returns errno's value when something failed.
  [[nodiscard]] int become() noexcept;
  [[nodiscard]] const DescriptorMap& descriptors() const noexcept { return descriptors_; }

 private:
  const Program& program_;
  std::vector<char*> argv_;
  std::vector<char*> envp_;
  DescriptorMap descriptors_;
};

// Owns a child process. Its end is awaited through a pidfd, or by its number where the kernel has
// no pidfds (before 5.3): the number stays its own until it has been collected, here. Movable. Not
// thread-safe.
class Child {
 public:
  // Runs `work`, a function that returns an int, in a child, which ends with what it returns: with
  // exit code kFailed (or an Error's own) when it throws, and never by going on in the caller. What
  // it threw is not reported. Signal mask and dispositions are inherited. Throws Error (kFailed):
  // "cannot TRIED: ...".
  template <typename Work>
  [[nodiscard]] static Child fork(std::string_view tried, const Work& work) {
    // No std::function: its type information would be relocated at every start of the launcher.
    return fork_calling(
        tried, [](const void* what) -> int { return (*static_cast<const Work*>(what))(); }, &work);
  }

  // Starts a program and returns when it runs. Throws Error (kMissingTool) when it can't.
  [[nodiscard]] static Child start(const Program& program);

  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  // A child that was not waited for is killed and collected: its work is not needed.
  ~Child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  // Becomes readable at the end, for poll(). -1 where the kernel has no pidfds.
  [[nodiscard]] int descriptor() const { return process_.get(); }

  // Waits for the end. The exit code, or 128 + N when signal N ended it; the same whenever it is
  // asked. Throws Error (kFailed) when another part of this process collected the child.
  int wait();
  // Waits for the end for some time. Returns whether it came. Throws as wait().
  // (Cold: no start of the launcher waits so.)
  [[nodiscard, gnu::cold]] bool wait_for(std::chrono::milliseconds at_most);

  // The signal that ended it; 0 where it ended by itself, or where its end has not been seen.
  [[nodiscard]] int ended_by() const noexcept { return ended_by_; }

  // Sends it a signal, unless its end has been seen.
  void signal(int number) const noexcept;

  // Leaves it alone: it is neither waited for nor killed by this object.
  void release() noexcept;

 private:
  using Call = int (*)(const void* work);

  [[nodiscard]] static Child fork_calling(std::string_view tried, Call call, const void* work);
  Child(pid_t pid, KeptChildren kept) noexcept;
  // Sets `status_` if it has ended. `options` as for waitid().
  void collect(int options);

  KeptChildren kept_;
  UniqueFd process_;
  pid_t pid_;
  std::optional<int> status_;
  int ended_by_ = 0;
};

}  // namespace pyram
