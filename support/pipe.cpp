#include "support/pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "support/error.h"

namespace pyram {

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw system_error(ExitCode::kFailed, errno, "make a pipe");
  }
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace pyram
