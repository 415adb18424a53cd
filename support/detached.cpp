#include "support/detached.h"

#include <unistd.h>

#include "support/child.h"
#include "support/error.h"

namespace pyram {

[[gnu::cold]] void start_detached(const std::vector<std::string>& arguments) {
  const Program program{.arguments = arguments,
                        .directory = "/",
                        .descriptors = {{DescriptorCopy::kNull, STDIN_FILENO},
                                        {DescriptorCopy::kNull, STDOUT_FILENO},
                                        {DescriptorCopy::kNull, STDERR_FILENO}},
                        .closes_others = true,
                        .resets_signals = true};
  const std::string tried = "start " + quote(arguments.at(0));
  // By way of a process that ends at once.
  const int code = Child::fork(tried, [&] {
                     if (::setsid() < 0) return 1;
                     Child::start(program).release();
                     return 0;
                   }).wait();
  if (code != 0)
    throw Error(ExitCode::kMissingTool, "cannot " + tried + ": check that it is there");
}

}  // namespace pyram
