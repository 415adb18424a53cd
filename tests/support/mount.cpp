#include "tests/support/mount.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "support/pipe.h"
#include "support/unique_fd.h"
#include "tests/support/catch.h"

namespace pyram::test {

Mount::Mount(const std::filesystem::path& image, std::vector<std::string> options, By by)
    : directory_(parent_ / "mount"), by_(by) {
  std::filesystem::create_directory(directory_);
  if (by_ == By::kUser) give_to_plain_user(directory_);
  std::vector<std::string> arguments = {program("pyram-mount")};
  arguments.insert(arguments.end(), options.begin(), options.end());
  arguments.insert(arguments.end(), {"--", image.native(), directory_.native()});
  const Outcome outcome = run(command(std::move(arguments)));
  INFO("pyram-mount says: " << outcome.errors);
  REQUIRE(outcome.status == 0);
  REQUIRE(is_mounted(directory_));
  mounted_ = true;
}

Mount::~Mount() {
  if (!mounted_ || !is_mounted(directory_)) return;
  // A test that failed may have left users behind: then this is what ends them.
  if (!run(command({program("pyram-mount"), "--unmount", directory_.native()})).ok()) {
    ::umount2(directory_.c_str(), MNT_DETACH);
  }
}

void Mount::unmount() {
  const pid_t process = daemon();
  const Outcome outcome = run(command({program("pyram-mount"), "--unmount", directory_.native()}));
  INFO("pyram-mount says: " << outcome.errors);
  REQUIRE(outcome.status == 0);
  mounted_ = false;
  wait_for_end(process);
}

std::map<std::string, std::string> Mount::status() const {
  const std::string text = run_or_throw(
      command({program("pyram-mount"), "--status", directory_.native(), "--format", "json"}),
      ExitCode::kFailed, "ask for the status");
  std::map<std::string, std::string> result;
  const auto values = nlohmann::json::parse(text);
  for (const auto& [name, value] : values.items()) {
    result[name] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  return result;
}

std::uint64_t Mount::count(const std::string& name) const { return std::stoull(status().at(name)); }

pid_t Mount::daemon() const { return static_cast<pid_t>(count("pid")); }

pid_t Mount::worker() const { return static_cast<pid_t>(count("worker_pid")); }

Command Mount::command(std::vector<std::string> arguments) const {
  if (by_ == By::kUser) return as_plain_user(std::move(arguments));
  return {.arguments = std::move(arguments)};
}

pid_t serve_in_foreground(const std::filesystem::path& image,
                          const std::filesystem::path& directory, const std::filesystem::path& log,
                          std::vector<std::string> options) {
  auto [ready, tell] = make_pipe();
  std::vector<std::string> words = {program("pyram-mount"), "-f", "--ready-fd",
                                    std::to_string(tell.get())};
  words.insert(words.end(), options.begin(), options.end());
  words.insert(words.end(), {image.native(), directory.native()});
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (std::freopen(log.c_str(), "w", stderr) == nullptr) ::_exit(1);
    ::fcntl(tell.get(), F_SETFD, 0);
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  tell.reset();
  char said = 0;
  REQUIRE(::read(ready.get(), &said, 1) == 1);
  REQUIRE(said == '+');
  return child;
}

void kill_daemon(const Mount& mount) {
  const pid_t process = mount.daemon();
  const pid_t worker = mount.worker();
  REQUIRE(::kill(process, SIGKILL) == 0);
  wait_for_end(process);
  wait_for_end(worker);
}

void wait_for_end(pid_t process) {
  const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  if (!handle) return;  // It has ended already.
  pollfd waiting{handle.get(), POLLIN, 0};
  while (::poll(&waiting, 1, -1) < 0) {
  }
}

}  // namespace pyram::test
