// How much memory mksquashfs may take.
#include "image-builder/output/squash.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/child.h"
#include "support/memory_groups.h"
#include "support/process.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/memory_group.h"

namespace fs = std::filesystem;
using pyram::kUnlimited;
using pyram::builder::make_squashfs;
using pyram::builder::memory_options;
using pyram::builder::SquashOptions;
using pyram::test::MemoryGroup;
using pyram::test::TemporaryDirectory;

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("mksquashfs is told of a control group's limit, and of nothing else") {
  constexpr std::uint64_t kMachine = 8192 * kMiB;
  CHECK(memory_options(kUnlimited, kMachine, 4).empty());
  CHECK(memory_options(kMachine, kMachine, 4).empty());
  CHECK(memory_options(512 * kMiB, kMachine, 4) == Words{"-mem", "128M"});
  CHECK(memory_options(512 * kMiB, kMachine, 64) == Words{"-mem", "128M", "-processors", "8"});
  CHECK(memory_options(1, kMachine, 2) == Words{"-mem", "16M", "-processors", "1"});
}

TEST_CASE("an image is compressed in the memory that a control group allows") {
  PYRAM_SKIP_WITH_SANITIZERS("it runs in little memory");
  const MemoryGroup group(64 * kMiB);
  if (!group.exists()) PYRAM_SKIP("no memory control group can be made here");
  const TemporaryDirectory directory;
  // What lies in a tmpfs counts as the group's memory.
  struct statfs system {};
  REQUIRE(::statfs(directory.path().c_str(), &system) == 0);
  if (system.f_type == TMPFS_MAGIC) PYRAM_SKIP("the temporary directory is in memory; set TMPDIR");
  fs::create_directory(directory / "tree");
  // Read faster than compressed: by itself mksquashfs would have all of it in memory.
  const std::string file = (directory / "tree/data").native();
  pyram::run_or_throw({{"sh", "-c", "head -c 201326592 /dev/urandom >\"$0\"", file}, {}, {}},
                      pyram::ExitCode::kFailed, "make a file");
  SquashOptions options;
  options.level = 9;
  pyram::Child child = pyram::Child::fork("compress the image", [&] {
    group.enter();
    make_squashfs(directory / "tree", directory / "image.sqfs", options);
    return 0;
  });
  CHECK(child.wait() == 0);
  CHECK(group.kills() == 0);
}
