// PyPy out of the default image: what a start costs in requests.
#include <filesystem>

#include "fusefs/image/hot_list.h"
#include "support/image_layout.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/mount.h"

namespace fs = std::filesystem;
using pyram::test::Mount;

namespace {

void run_python(const fs::path& root, const std::string& code) {
  const auto outcome = pyram::run(
      {.arguments = {root / pyram::layout::kLoader, "--argv0", root / pyram::layout::kInterpreter,
                     "--library-path", root / pyram::layout::kLibraries,
                     root / pyram::layout::kProgram, "-c", code},
       // Sets are walked in another order at every start otherwise, and other names are asked for.
       .environment = std::vector<std::string>{"PYTHONHASHSEED=0", "PATH=/usr/bin:/bin"}});
  INFO(outcome.errors);
  REQUIRE(outcome.status == 0);
}

// Without the ioctls that PyPy sends for every file it opens; without what the kernel tells when it
// lets go of an inode, which nobody waits for; and without READs, which are looked at apart.
std::uint64_t requests_but_ioctls(const Mount& mount) {
  const auto status = mount.status();
  std::uint64_t count = std::stoull(status.at("requests"));
  for (const char* kind : {"ioctl", "forget", "batch_forget", "read"}) {
    count -= std::stoull(status.at(std::string("requests_") + kind));
  }
  return count;
}

constexpr char kDjango[] =
    "import django\n"
    "from django.conf import settings\n"
    "settings.configure(TEMPLATES=[{'BACKEND':"
    "'django.template.backends.django.DjangoTemplates'}])\n"
    "django.setup()\n"
    "import django.urls\n"
    "from django.template import Template, Context\n"
    "assert Template('hello {{x}}').render(Context({'x': 1})) == 'hello 1'\n";

}  // namespace

TEST_CASE("a second start asks nothing but whether files are terminals") {
  const std::string code = GENERATE("pass", kDjango);
  // Prefetching goes on beside the start, and would be counted.
  const Mount mount(pyram::test::default_image(), {"--prefetch", "none"});
  run_python(mount.path(), code);
  const std::uint64_t before = requests_but_ioctls(mount);
  const std::uint64_t reads = mount.count("requests_read");
  run_python(mount.path(), code);
  // Of some 700. The kernel may let go of a name at any time, and asks again then; on a machine
  // with other work it does now and then.
  CHECK(requests_but_ioctls(mount) - before <= 5);
  // No two runs touch quite the same pages of the library: when the collector runs and what is
  // compiled differ. If the cache were lost, all of them would be asked for again.
  CHECK(mount.count("requests_read") - reads <= reads / 10);
}

TEST_CASE("what was recorded is a hot list of what a start reads") {
  const pyram::test::TemporaryDirectory directory;
  const fs::path record = directory / "record";
  {
    Mount mount(pyram::test::default_image(), {"--record", record.native()});
    run_python(mount.path(), "pass");
    mount.unmount();
  }
  const auto groups = pyram::parse_hot_list(pyram::read_file(record));
  REQUIRE(groups.size() == 1);
  REQUIRE_FALSE(groups[0].ranges.empty());
  CHECK(groups[0].ranges[0].path == pyram::layout::kLoader);
}

TEST_CASE("prefetching all stores every file, and reading then asks for next to none") {
  Mount mount(pyram::test::default_image(), {"--prefetch", "all"});
  // Both figures from one answer: between two answers they change.
  for (;;) {
    const auto status = mount.status();
    const std::string& total = status.at("prefetch_total_bytes");
    if (total != "0" && status.at("prefetch_done_bytes") == total) break;
  }
  const std::uint64_t before = mount.count("requests_read");
  std::uint64_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(mount.path())) {
    if (!entry.is_regular_file() || entry.is_symlink() || entry.file_size() == 0) continue;
    // The interpreter's library has blocks of zeros, which cost nothing to answer and aren't
    // stored.
    if (entry.path().native().find("/libexec/pyram/") != std::string::npos) continue;
    static_cast<void>(pyram::read_file(entry.path()));
    ++files;
  }
  // The kernel may let go of any page at any time, so that "none" can't be asked for.
  CHECK(files > 1000);
  CHECK(mount.count("requests_read") - before <= files / 100);
  mount.unmount();
}
