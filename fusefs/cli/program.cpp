#include "fusefs/cli/program.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fusefs/cli/options.h"
#include "fusefs/cli/status_summary.h"
#include "fusefs/image/image.h"
#include "fusefs/mount/mount_point.h"
#include "fusefs/status.h"
#include "fusefs/supervise/readiness.h"
#include "fusefs/supervise/supervisor.h"
#include "fusefs/supervise/worker_process.h"
#include "fusefs/unpack/extract.h"
#include "support/child.h"
#include "support/error.h"
#include "support/image_names.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/signal_reset.h"

namespace {

using pyram::Error;
using pyram::ExitCode;

// Everything that we inherited but the standard descriptors and `kept`, of which some may be -1.
template <std::size_t Count>
void close_inherited(std::array<int, Count> kept) {
  std::ranges::sort(kept);
  unsigned first = STDERR_FILENO + 1;
  for (const int descriptor : kept) {
    const auto number = static_cast<unsigned>(descriptor);
    if (descriptor < 0 || number < first) continue;
    if (number > first) ::close_range(first, number - 1, 0);
    first = number + 1;
  }
  ::close_range(first, ~0U, 0);
}

// Runs `work`, and tells `readiness` why it failed where it does.
template <typename Work>
auto telling(pyram::Readiness& readiness, Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    readiness.fail(error);
    throw;
  } catch (const std::exception& error) {
    readiness.fail(Error(ExitCode::kFailed, error.what()));
    throw;
  }
}

// Has `options` name the file of the image that is meant. The launcher does, by its absolute path.
void find_image(pyram::Options& options, pyram::Readiness& readiness) {
  if (options.image.native().starts_with('/')) return;
  options.image = telling(readiness, [&] { return pyram::image_file(options.image.native()); });
}

// An image may be a descriptor that we were given (/proc/self/fd/3), of a file that has no name any
// more, or that we may not open by ourselves: then the descriptor itself serves.
pyram::ImageFile open_image(const pyram::Options& options) {
  try {
    return pyram::Image::open_file(options.image, options.offset);
  } catch (const Error&) {
    const std::optional<int> given = pyram::descriptor_named_by(options.image.native());
    if (!given) throw;
    pyram::UniqueFd copy(::fcntl(*given, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!copy) throw;
    return {std::move(copy), pyram::quote(options.image.native()), options.offset};
  }
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
      telling(readiness, serve);
    } catch (const Error& error) {
      code = static_cast<int>(error.code());
    } catch (const std::exception&) {
      code = static_cast<int>(ExitCode::kFailed);
    }
    std::exit(code);
  });
  daemon.release();
  input.reset();
  pyram::wait_for_child(std::move(output),
                        "the daemon died before it could serve; see the system's log");
}

pyram::Readiness open_readiness(const pyram::Options& options) {
  if (options.ready_fd >= 0 && ::fcntl(options.ready_fd, F_SETFD, FD_CLOEXEC) != 0) {
    throw Error(ExitCode::kUsage,
                "--ready-fd " + std::to_string(options.ready_fd) + " is not an open descriptor");
  }
  // Who gave a descriptor waits for that. A service manager's variable came from a service that
  // started us on its way (pyram), and isn't ready because we are. Asked for first, as unsetenv()
  // is among what no other start reads of the program.
  constexpr char kVariable[] = "NOTIFY_SOCKET";
  if (options.ready_fd >= 0 && ::getenv(kVariable) != nullptr) ::unsetenv(kVariable);
  return {pyram::UniqueFd(options.ready_fd), options.notify_pipe};
}

void mount(pyram::Options& options) {
  pyram::Readiness readiness = open_readiness(options);
  find_image(options, readiness);
  if (options.device >= 0 && ::fcntl(options.device, F_SETFD, FD_CLOEXEC) != 0) {
    throw Error(ExitCode::kBadMountPoint,
                "cannot mount on " + pyram::quote(options.mount_point.native()) +
                    ": it is not an open descriptor; give an open /dev/fuse, or a directory");
  }
  // First: the image may be one of the descriptors that are closed next.
  pyram::ImageFile image = telling(readiness, [&] { return open_image(options); });
  const pyram::PartialImage* const partial = image.partial();
  close_inherited(std::array{options.ready_fd, options.device, image.descriptor(),
                             partial != nullptr ? partial->map() : -1,
                             partial != nullptr ? partial->ask() : -1});
  const auto serve = [&] { pyram::run_daemon(options, std::move(image), readiness); };
  if (options.foreground) {
    telling(readiness, serve);
  } else {
    in_background(readiness, serve);
  }
}

void extract(pyram::Options& options) {
  pyram::Readiness readiness = open_readiness(options);
  find_image(options, readiness);
  const pyram::Extraction extraction{.image = options.image,
                                     .offset = options.offset,
                                     .verify = options.verify,
                                     .directory = options.mount_point,
                                     .threads = options.threads};
  if (options.hot_first) {
    close_inherited(std::array{options.ready_fd});
    in_background(readiness,
                  [&] { pyram::extract_hot_first(extraction, [&] { readiness.succeed(); }); });
    return;
  }
  telling(readiness, [&] { pyram::extract_image(extraction); });
  readiness.succeed();
}

[[gnu::cold]] void show_status(const pyram::Options& options) {
  const std::string lines = pyram::query_status(options.mount_point);
  pyram::write_full(
      STDOUT_FILENO,
      options.status_format == pyram::StatusFormat::kSummary
          ? pyram::summarise_status(lines, pyram::waiting_requests(options.mount_point))
          : pyram::format_status(lines, options.status_format),
      "the status");
}

int run(int argc, char** argv) {
  if (argc <= 1) {
    // Some callers look here for what we can do, as they do with squashfuse_ll.
    pyram::write_full(STDERR_FILENO, "pyram-mount " PYRAM_VERSION "\n" + pyram::help_text(),
                      "the help");
    return static_cast<int>(ExitCode::kUsage);
  }
  std::optional<pyram::Options> options = pyram::parse_options(argc, argv);
  if (!options) return 0;
  // An extraction in the foreground has no children, and goes on after its terminal under nohup.
  if (options->action != pyram::Action::kExtract || options->hot_first) {
    // nohup is meant for a daemon in the foreground; in the background it has no terminal.
    options->foreground ? pyram::reset_signals({SIGHUP}) : pyram::reset_signals();
  }
  // What we make has the modes that we say: the caller's umask may be 0777.
  ::umask(022);
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
      return pyram::run_worker(*options, pyram::inherited_handles(options->is_partial),
                               pyram::WorkerKind::kProcess);
    case pyram::Action::kStatus:
      show_status(*options);
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
