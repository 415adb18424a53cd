#include "fusefs/supervise/image_check.h"

#include <exception>
#include <memory>
#include <utility>

#include "fusefs/image/image.h"
#include "fusefs/supervise/readiness.h"
#include "support/child.h"
#include "support/error.h"
#include "support/pipe.h"

namespace pyram {

void check_image(const ImageFile& file, const Options& options) {
  auto [output, input] = make_pipe();
  Child child = Child::fork("start a process to check the image", [&] {
    Readiness verdict{UniqueFd(), {}};
    verdict.set_parent(std::move(input));
    try {
      // Not taken down again: this process ends.
      static_cast<void>(
          std::make_unique<Image>(file.copy(), options.verify, options.subdirectory).release());
    } catch (const Error& error) {
      verdict.fail(error);
      return 1;
    } catch (const std::exception& error) {
      verdict.fail(Error(ExitCode::kFailed, error.what()));
      return 1;
    }
    verdict.succeed();
    return 0;
  });
  input.reset();
  wait_for_child(std::move(output), "cannot use the image " + file.name() +
                                        ": the process that checked it died; report it");
  child.wait();
}

}  // namespace pyram
