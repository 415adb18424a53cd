#include "support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "support/child.h"
#include "support/error.h"
#include "support/pipe.h"
#include "support/unique_fd.h"

namespace pyram {
namespace {

// Reads both pipes until both are closed; reading one after the other could block the child.
void drain(UniqueFd output, UniqueFd errors, Outcome& outcome,
           const std::function<void(std::string_view)>& follow) {
  std::array<pollfd, 2> polled{pollfd{output.get(), POLLIN, 0}, pollfd{errors.get(), POLLIN, 0}};
  std::array<std::string*, 2> sinks{&outcome.output, &outcome.errors};
  std::array<char, 16384> buffer;
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    if (::poll(polled.data(), polled.size(), -1) < 0) {
      if (errno == EINTR) continue;
      throw system_error(ExitCode::kFailed, errno, "wait for a command's output");
    }
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      const ssize_t n = ::read(polled[i].fd, buffer.data(), buffer.size());
      if (n > 0) {
        const std::string_view part(buffer.data(), static_cast<std::size_t>(n));
        sinks[i]->append(part);
        if (i == 0 && follow) follow(part);
      } else if (n == 0 || errno != EINTR) {
        polled[i].fd = -1;  // poll() passes over negative descriptors.
      }
    }
  }
}

}  // namespace

std::string Outcome::last_line() const {
  const std::string& text =
      errors.find_first_not_of(" \t\n") != std::string::npos ? errors : output;
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string::npos) return "it printed nothing";
  const std::size_t newline = text.rfind('\n', end);
  const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
  return text.substr(begin, end - begin + 1);
}

std::optional<std::filesystem::path> find_program(std::string_view name) {
  if (name.find('/') != std::string_view::npos) {
    return ::access(std::string(name).c_str(), X_OK) == 0
               ? std::optional(std::filesystem::path(name))
               : std::nullopt;
  }
  const char* variable = std::getenv("PATH");
  // The directories of the system are looked in as well: administrators' tools are often not in a
  // plain user's PATH, and PATH may be empty.
  std::string directories = variable != nullptr ? variable : "";
  directories += ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (std::size_t begin = 0; begin <= directories.size();) {
    const std::size_t end = std::min(directories.find(':', begin), directories.size());
    if (end > begin) {
      std::filesystem::path candidate = directories.substr(begin, end - begin);
      candidate /= name;
      if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    begin = end + 1;
  }
  return std::nullopt;
}

Outcome run(const Command& command) {
  const std::string& name = command.arguments.at(0);
  const auto program = find_program(name);
  if (!program) {
    throw Error(
        ExitCode::kMissingTool,
        "cannot run " + quote(name) + ": it is not installed; install the package that has it");
  }
  Pipe output = make_pipe();
  Pipe errors = make_pipe();
  Program what{.arguments = command.arguments,
               .path = *program,
               .environment = command.environment,
               .directory = command.directory.value_or(""),
               .descriptors = {{DescriptorCopy::kNull, STDIN_FILENO}}};
  if (command.quiet) {
    what.descriptors.push_back({output.writer.get(), STDOUT_FILENO});
    what.descriptors.push_back({errors.writer.get(), STDERR_FILENO});
  }
  Child child = Child::start(what);
  output.writer.reset();
  errors.writer.reset();
  Outcome outcome;
  drain(std::move(output.reader), std::move(errors.reader), outcome, command.follow);
  outcome.status = child.wait();
  return outcome;
}

std::string run_or_throw(const Command& command, ExitCode code, std::string_view tried) {
  Outcome outcome = run(command);
  if (!outcome.ok()) {
    throw Error(code, "cannot " + std::string(tried) + ": " + command.arguments.front() +
                          " ended with " + std::to_string(outcome.status) + ": " +
                          outcome.last_line());
  }
  return std::move(outcome.output);
}

}  // namespace pyram
