#include "registry/fetch_plan.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "fusefs/image/extent.h"
#include "fusefs/image/hot_list.h"
#include "fusefs/image/image.h"
#include "support/error.h"

namespace pyram::registry {
namespace {

// More than any image has in its hot list; its text came from a server, though what it says is
// checked.
constexpr std::size_t kMostSteps = std::size_t{1} << 18;

class Planner {
 public:
  Planner(const Image& image, const MapHead& sizes) : image_(image), sizes_(sizes) {}

  void add_bytes(std::vector<std::uint32_t>& to, std::uint64_t position, std::uint64_t length) {
    if (length == 0 || position + length > sizes_.data_size) return;
    const std::uint32_t last = sizes_.chunk_of(position + length - 1);
    for (std::uint32_t chunk = sizes_.chunk_of(position); chunk <= last; ++chunk) {
      if (known_.insert(chunk).second) to.push_back(chunk);
    }
  }

  void add_group(std::vector<std::uint32_t>& to, const HotGroup& group) {
    for (const HotRange& range : group.ranges) {
      const auto file = find_path(image_, range.path);
      if (!file || !S_ISREG(image_.attributes(*file).mode)) continue;
      add_range(to, *file, range);
    }
  }

 private:
  void add_range(std::vector<std::uint32_t>& to, InodeRef file, const HotRange& range) {
    FileMap map = image_.file_map(file, 0);
    const std::uint64_t end = std::min(range.offset + range.length, map.file_size);
    for (std::uint64_t at = range.offset; at < end;) {
      if (++steps_ > kMostSteps) return;
      if (!covers(map, at)) map = image_.file_map(file, at / map.block_size);
      const Extent extent = extent_at(map, at);
      if (extent.length == 0) return;
      if (!extent.block.is_hole()) {
        add_bytes(to, extent.block.position, extent.block.stored_size);
      }
      at = extent.file_offset + extent.length;
    }
  }

  const Image& image_;
  const MapHead& sizes_;
  std::set<std::uint32_t> known_;
  std::size_t steps_ = 0;
};

}  // namespace

FetchPlan plan_fetch(const LazyImage& lazy) {
  UniqueFd data(::fcntl(lazy.descriptor(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!data) throw system_error(ExitCode::kFailed, errno, "copy a descriptor");
  auto partial = lazy.partial().copy();
  partial->set_patience(std::chrono::seconds(0));
  const Image image(
      ImageFile(std::move(data), quote(lazy.directory().native()), 0, std::move(partial)));
  const Superblock& superblock = image.superblock();
  FetchPlan plan;
  Planner planner(image, lazy.sizes());
  planner.add_bytes(plan.hot, 0, Superblock::kSize);
  planner.add_bytes(plan.hot, superblock.inode_table,
                    superblock.bytes_used - superblock.inode_table);
  for (const HotGroup& group : hot_groups(image)) {
    planner.add_group(group.trigger.empty() ? plan.hot : plan.later, group);
  }
  return plan;
}

}  // namespace pyram::registry
