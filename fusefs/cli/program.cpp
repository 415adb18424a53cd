#include "fusefs/cli/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "fusefs/cli/options.h"
#include "fusefs/mount/mount_point.h"
#include "fusefs/status.h"
#include "fusefs/supervise/readiness.h"
#include "fusefs/supervise/supervisor.h"
#include "fusefs/supervise/worker_process.h"
#include "fusefs/unpack/extract.h"
#include "support/child.h"
#include "support/error.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/signal_reset.h"

namespace {

using pyram::Error;
using pyram::ExitCode;

// Everything that we inherited but the standard descriptors and `kept`.
void close_inherited(int kept) {
  constexpr unsigned kFirst = STDERR_FILENO + 1;
  if (kept < static_cast<int>(kFirst)) {
    ::close_range(kFirst, ~0U, 0);
    return;
  }
  const auto number = static_cast<unsigned>(kept);
  if (number > kFirst) ::close_range(kFirst, number - 1, 0);
  ::close_range(number + 1, ~0U, 0);
}

// Runs `serve` in a child and returns once it serves; throws the child's Error.
template <typename Serve>
void in_background(pyram::Readiness& readiness, Serve&& serve) {
  auto [output, input] = pyram::make_pipe();
  pyram::Child daemon = pyram::Child::fork("start the daemon", [&]() -> int {
    output.reset();
    readiness.set_parent(std::move(input));
    ::setsid();
    int code = 0;
    try {
      serve();
    } catch (const Error& error) {
      readiness.fail(error);
      code = static_cast<int>(error.code());
    } catch (const std::exception& error) {
      readiness.fail(Error(ExitCode::kFailed, error.what()));
      code = static_cast<int>(ExitCode::kFailed);
    }
    std::exit(code);
  });
  daemon.release();
  input.reset();
  pyram::wait_for_child(std::move(output));
}

// Closes what a process that stays must not keep open.
pyram::Readiness open_readiness(const pyram::Options& options) {
  close_inherited(options.ready_fd);
  if (options.ready_fd >= 0 && ::fcntl(options.ready_fd, F_SETFD, FD_CLOEXEC) != 0) {
    throw Error(ExitCode::kUsage,
                "--ready-fd " + std::to_string(options.ready_fd) + " is not an open descriptor");
  }
  return {pyram::UniqueFd(options.ready_fd), options.notify_pipe};
}

void mount(const pyram::Options& options) {
  pyram::Readiness readiness = open_readiness(options);
  const auto serve = [&] { pyram::run_daemon(options, readiness); };
  if (!options.foreground) {
    in_background(readiness, serve);
    return;
  }
  try {
    serve();
  } catch (const Error& error) {
    readiness.fail(error);
    throw;
  } catch (const std::exception& error) {
    readiness.fail(Error(ExitCode::kFailed, error.what()));
    throw;
  }
}

void extract(const pyram::Options& options) {
  const pyram::Extraction extraction{.image = options.image,
                                     .offset = options.offset,
                                     .verify = options.verify,
                                     .directory = options.mount_point,
                                     .threads = options.threads};
  if (options.hot_first) {
    pyram::Readiness readiness = open_readiness(options);
    in_background(readiness,
                  [&] { pyram::extract_hot_first(extraction, [&] { readiness.succeed(); }); });
    return;
  }
  pyram::Readiness readiness(pyram::UniqueFd(options.ready_fd), {});
  try {
    pyram::extract_image(extraction);
  } catch (const Error& error) {
    readiness.fail(error);
    throw;
  }
  readiness.succeed();
}

int run(int argc, char** argv) {
  const std::optional<pyram::Options> options = pyram::parse_options(argc, argv);
  if (!options) return 0;
  // An extraction in the foreground has no children, and goes on after its terminal under nohup.
  if (options->action != pyram::Action::kExtract || options->hot_first) {
    // nohup is meant for a daemon in the foreground; in the background it has no terminal.
    options->foreground ? pyram::reset_signals({SIGHUP}) : pyram::reset_signals();
  }
  // A file that would be too large (ulimit -f) is an error that can be told, and no reason to die.
  std::signal(SIGXFSZ, SIG_IGN);
  switch (options->action) {
    case pyram::Action::kMount:
      mount(*options);
      break;
    case pyram::Action::kUnmount:
      pyram::unmount_directory(options->mount_point);
      break;
    case pyram::Action::kExtract:
      extract(*options);
      break;
    case pyram::Action::kReload:
      pyram::reload_worker(options->mount_point);
      break;
    case pyram::Action::kWork:
      return pyram::run_worker(*options, pyram::inherited_handles(), pyram::WorkerKind::kProcess);
    case pyram::Action::kStatus:
      pyram::write_full(
          STDOUT_FILENO,
          pyram::format_status(pyram::query_status(options->mount_point), options->status_format),
          "the status");
      break;
  }
  return 0;
}

}  // namespace

namespace pyram {

int mount_program(int argc, char** argv) {
  pyram::ensure_standard_descriptors();
  std::string message;
  ExitCode code = ExitCode::kFailed;
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    message = error.what();
    code = error.code();
  } catch (const std::exception& error) {
    message = error.what();
  }
  std::fprintf(stderr, "pyram-mount: %s\n", message.c_str());
  return static_cast<int>(code);
}

}  // namespace pyram
