#include "fusefs/status.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "support/error.h"

namespace pyram {
namespace {

// The requests that a read-only file system can get, by their number in linux/fuse.h.
constexpr std::array<std::pair<std::size_t, std::string_view>, 22> kRequests = {{
    {1, "lookup"},  {2, "forget"},     {3, "getattr"},  {5, "readlink"},      {14, "open"},
    {15, "read"},   {17, "statfs"},    {18, "release"}, {22, "getxattr"},     {23, "listxattr"},
    {25, "flush"},  {26, "init"},      {27, "opendir"}, {28, "readdir"},      {29, "releasedir"},
    {34, "access"}, {36, "interrupt"}, {39, "ioctl"},   {42, "batch_forget"}, {44, "readdirplus"},
    {46, "lseek"},  {52, "statx"},
}};

std::uint64_t resident_bytes(int memory_file) {
  std::array<char, 128> text{};
  unsigned long long resident = 0;
  if (::pread(memory_file, text.data(), text.size() - 1, 0) <= 0 ||
      std::sscanf(text.data(), "%*u %llu", &resident) != 1) {  // NOLINT(cert-err34-c): the kernel's
    return 0;
  }
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

std::string describe_status(const DaemonFacts& facts, const Statistics& statistics) {
  using std::chrono::duration_cast;
  using std::chrono::milliseconds;
  const auto up = duration_cast<milliseconds>(std::chrono::steady_clock::now() - facts.started);
  std::string out;
  const auto line = [&](std::string_view name, const auto& value) {
    out.append(name).push_back('=');
    if constexpr (std::is_integral_v<std::remove_reference_t<decltype(value)>>) {
      out.append(std::to_string(value));
    } else {
      out.append(value);
    }
    out.push_back('\n');
  };
  line("version", PYRAM_VERSION);
  line("image", facts.image);
  line("mount_point", facts.mount_point);
  line("pid", facts.daemon);
  line("worker_pid", ::getpid());
  line("confinement", facts.confinement);
  line("verify", facts.verifies ? "all" : "none");
  line("uptime_milliseconds", up.count());
  line("threads", facts.threads);
  line("worker_restarts", statistics.worker_restarts.value());
  line("worker_reloads", statistics.worker_reloads.value());
  line("resident_bytes", resident_bytes(facts.memory_file));
  line("cache_bytes", statistics.cache_bytes.load());
  line("cache_capacity_bytes", facts.cache_capacity);
  line("requests", statistics.all_requests());
  std::uint64_t others = statistics.all_requests();
  for (const auto& [opcode, name] : kRequests) {
    const std::uint64_t count = statistics.requests[opcode].value();
    others -= std::min(others, count);
    line("requests_" + std::string(name), count);
  }
  line("requests_other", others);
  line("errors", statistics.errors.value());
  line("verify_failures", statistics.verify_failures.value());
  line("served_bytes", statistics.bytes_served.value());
  line("stored_bytes", statistics.bytes_stored.value());
  line("image_read_bytes", statistics.bytes_read.value());
  line("decompressed_bytes", statistics.bytes_decompressed.value());
  line("decompressed_blocks", statistics.blocks_decompressed.value());
  line("cache_hits", statistics.cache_hits.value());
  line("cache_joins", statistics.cache_joins.value());
  line("prefetch_total_bytes", statistics.prefetch_total.load());
  line("prefetch_done_bytes", statistics.prefetch_done.load());
  if (facts.partial != nullptr) {
    const MapHead head = facts.partial->head();
    line("fetch_total_bytes", head.size);
    line("fetch_done_bytes", head.here);
    line("fetch_rate_bytes", head.is_whole != 0 ? 0 : head.rate);
    line("fetch_errors", head.errors);
    line("fetch_running", head.is_whole == 0 && facts.partial->is_being_fetched() ? 1 : 0);
    if (head.is_whole == 0) line("fetch_last_error", escape(head.last_error.data()));
  }
  return out;
}

}  // namespace pyram
