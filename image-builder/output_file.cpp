#include "image-builder/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <span>
#include <utility>
#include <vector>

#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;

void check_output(const fs::path& output) {
  const fs::path directory = output.parent_path();
  if (!fs::is_directory(directory)) {
    throw Error(ExitCode::kCannotWrite, "cannot write " + quote(output.native()) +
                                            ": there is no directory " + quote(directory.native()));
  }
  if (::access(directory.c_str(), W_OK) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write into " + quote(directory.native()));
  }
  if (fs::is_directory(output)) {
    throw Error(ExitCode::kCannotWrite, "cannot write " + quote(output.native()) +
                                            ": it is a directory; name a file in it");
  }
}

fs::path choose_work_dir(const fs::path& wanted, const fs::path& output) {
  if (!wanted.empty()) return fs::absolute(wanted);
  if (const char* variable = std::getenv("TMPDIR"); variable != nullptr && *variable == '/') {
    return variable;
  }
  return output.parent_path();
}

UnfinishedFile::UnfinishedFile(fs::path path) : path_(std::move(path)) { ::unlink(path_.c_str()); }

UnfinishedFile::~UnfinishedFile() { ::unlink(path_.c_str()); }

void put_in_place(const fs::path& partial, const fs::path& output) {
  const UniqueFd fd(::open(partial.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd directory(
      ::open(output.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fchmod(fd.get(), 0644) != 0 || ::fsync(fd.get()) != 0 ||
      ::rename(partial.c_str(), output.c_str()) != 0 || !directory ||
      ::fsync(directory.get()) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(output.native()));
  }
}

void copy_content(const fs::path& from, const fs::path& to) {
  const UniqueFd reader(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!reader || ::fstat(reader.get(), &status) != 0) {
    throw system_error(ExitCode::kBadSource, errno, "read " + quote(from.native()));
  }
  const UniqueFd writer(
      ::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, status.st_mode & 0777));
  if (!writer) throw system_error(ExitCode::kCannotWrite, errno, "create " + quote(to.native()));
  std::vector<std::byte> buffer(1 << 18);
  std::uint64_t done = 0;
  for (;;) {
    const std::size_t n = pread_full(reader.get(), buffer, done);
    write_full(writer.get(), std::span(buffer).first(n), quote(to.native()));
    if (n < buffer.size()) return;
    done += n;
  }
}

}  // namespace pyram::builder
