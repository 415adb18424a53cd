#include "image-builder/output/bundle.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fusefs/image/image.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output/squash.h"
#include "image-builder/scratch_job.h"
#include "support/bundle_layout.h"
#include "support/error.h"
#include "support/process.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr char kRuntime[] = "pyram-bundle";
constexpr std::array<char, 4> kSquashfsMagic{'h', 's', 'q', 's'};

// The program that a bundle begins with: beside us in a build directory, otherwise where it is
// installed.
fs::path find_runtime() {
  std::error_code error;
  const fs::path directory = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& candidate :
       {directory / kRuntime, directory.parent_path() / "libexec/pyram" / kRuntime}) {
    if (fs::is_regular_file(candidate, error)) return candidate;
  }
  throw Error(ExitCode::kMissingTool, "cannot make a bundle: there is no " + std::string(kRuntime) +
                                          " in " + quote(directory.native()) +
                                          "; install the package pyram-image-builder");
}

UniqueFd open_to_read(const fs::path& path, ExitCode code, std::string_view what) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    throw system_error(code, errno, "open the " + std::string(what) + ' ' + quote(path.native()));
  return fd;
}

void check_image(const fs::path& path) {
  const UniqueFd fd = open_to_read(path, ExitCode::kBadImage, "image");
  std::array<char, kSquashfsMagic.size()> magic{};
  if (::pread(fd.get(), magic.data(), magic.size(), 0) != static_cast<ssize_t>(magic.size()) ||
      magic != kSquashfsMagic) {
    throw Error(ExitCode::kBadImage,
                "cannot bundle " + quote(path.native()) + ": it is no SquashFS image");
  }
}

void append(int output, const fs::path& from, ExitCode code, std::string_view what) {
  const UniqueFd input = open_to_read(from, code, what);
  constexpr std::size_t kPiece = std::size_t{1} << 24;
  for (;;) {
    const ssize_t copied = ::sendfile(output, input.get(), nullptr, kPiece);
    if (copied == 0) return;
    if (copied < 0 && errno != EINTR) {
      throw system_error(ExitCode::kCannotWrite, errno,
                         "copy the " + std::string(what) + ' ' + quote(from.native()));
    }
  }
}

// A directory that Python runs: what is in the application's directory, or the script as
// __main__.py.
void lay_out_application(const fs::path& application, const fs::path& directory) {
  if (fs::is_directory(application)) {
    if (!fs::is_regular_file(application / "__main__.py")) {
      throw Error(ExitCode::kBadSource, "cannot bundle the directory " +
                                            quote(application.native()) +
                                            ": it has no __main__.py, which is what would be run");
    }
    fs::copy(application, directory, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  } else if (fs::is_regular_file(application)) {
    fs::create_directory(directory);
    fs::copy_file(application, directory / "__main__.py");
  } else {
    throw Error(ExitCode::kBadSource, "cannot bundle " + quote(application.native()) +
                                          ": there is no such script or directory");
  }
}

// mksquashfs adds to an image that exists.
void add_application(const BundleOptions& options, const Scratch& scratch, const fs::path& image) {
  const fs::path directory = scratch.directory / kBundleApplication;
  lay_out_application(options.application, directory);
  fs::copy_file(options.image, image);
  fs::permissions(image, fs::perms::owner_write, fs::perm_options::add);
  // Its Merkle tree is of what it was, and lies where mksquashfs goes on.
  fs::resize_file(image, trailer_position(Image::open(image)->superblock().bytes_used));
  std::vector<std::string> arguments = {"mksquashfs",         directory.native(), image.native(),
                                        "-keep-as-directory", "-no-progress",     "-quiet",
                                        "-all-root",          "-no-xattrs",       "-no-recovery"};
  for (std::string& option : memory_options()) arguments.push_back(std::move(option));
  run_or_throw({.arguments = std::move(arguments)}, ExitCode::kCannotWrite,
               "add the application to a copy of the image");
  seal(image, {});
}

int write_bundle(const BundleOptions& options, const Scratch& scratch) {
  fs::path image = options.image;
  if (!options.application.empty()) {
    image = scratch.directory / "image.sqfs";
    add_application(options, scratch, image);
  }
  const UniqueFd output(
      ::open(scratch.partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700));
  if (!output) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(options.output.native()));
  }
  append(output.get(), find_runtime(), ExitCode::kMissingTool, "program");
  const auto end = static_cast<std::uint64_t>(::lseek(output.get(), 0, SEEK_CUR));
  const std::uint64_t start = (end + kBundleAlignment - 1) / kBundleAlignment * kBundleAlignment;
  if (::lseek(output.get(), static_cast<off_t>(start), SEEK_SET) < 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(options.output.native()));
  }
  append(output.get(), image, ExitCode::kBadImage, "image");
  if (::fchmod(output.get(), 0755) != 0 || ::fsync(output.get()) != 0 ||
      ::rename(scratch.partial.c_str(), options.output.c_str()) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(options.output.native()));
  }
  return 0;
}

}  // namespace

int bundle_image(const BundleOptions& options) {
  check_image(options.image);
  static_cast<void>(find_runtime());
  BundleOptions absolute = options;
  absolute.output = fs::absolute(options.output);
  const fs::path directory = absolute.output.parent_path();
  return run_scratch_job(directory, absolute.output, [&absolute](const Scratch& scratch) {
    return write_bundle(absolute, scratch);
  });
}

}  // namespace pyram::builder
