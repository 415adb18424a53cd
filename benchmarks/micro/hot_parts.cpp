// Decompression of a block, a cache hit, a look-up in a directory: what every request is made of.
//
// On the image that PYRAM_IMAGE names, or build/images/default.sqfs in the current directory.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "fusefs/image/image.h"
#include "fusefs/serve/block_cache.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/statistics.h"
#include "support/image_layout.h"

namespace {

using pyram::Image;

// One image for all benchmarks: opening it is not what is measured.
const Image& image() {
  static const std::unique_ptr<Image> opened = [] {
    const char* path = std::getenv("PYRAM_IMAGE");
    return Image::open(path != nullptr ? path : "build/images/default.sqfs");
  }();
  return *opened;
}

pyram::InodeRef find(std::string_view path) {
  const auto found = pyram::find_path(image(), path);
  if (!found) std::abort();
  return *found;
}

// The interpreter's library: the largest file of every image, and the first to be read.
pyram::InodeRef library() {
  const auto directory = find(pyram::layout::kLibraries);
  for (auto listing = image().open_listing(directory);;) {
    const auto entry = Image::next_entry(listing);
    if (!entry) std::abort();
    if (entry->name.starts_with("libpypy3")) return entry->inode;
  }
}

std::vector<pyram::Block> library_blocks() {
  std::vector<pyram::Block> blocks;
  for (const auto& block : image().file_map(library(), 0).blocks) {
    if (block.stored_size != 0) blocks.push_back(block);
  }
  return blocks;
}

void decompress_block(benchmark::State& state) {
  const auto blocks = library_blocks();
  std::vector<std::byte> output(image().superblock().block_size);
  std::size_t next = 0;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    bytes += static_cast<std::int64_t>(image().read_block(blocks[next], output));
    next = (next + 1) % blocks.size();
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(decompress_block)->ThreadRange(1, 2)->UseRealTime();

void cache_hit(benchmark::State& state) {
  static pyram::Statistics statistics;
  static pyram::BlockCache cache(image(), statistics, 8U << 20U, 4);
  const auto block = library_blocks().front();
  for (auto _ : state) {
    const auto pin = cache.get(block);
    benchmark::DoNotOptimize(pin.bytes().data());
  }
}
BENCHMARK(cache_hit)->ThreadRange(1, 2)->UseRealTime();

void look_up(benchmark::State& state, const char* name) {
  const auto directory = find(std::string(pyram::layout::kLibraries));
  for (auto _ : state) benchmark::DoNotOptimize(image().lookup(directory, name));
}
BENCHMARK_CAPTURE(look_up, found, "libc.so.6");
BENCHMARK_CAPTURE(look_up, missing, "libmissing.so.6");

void find_django(benchmark::State& state) {
  for (auto _ : state)
    benchmark::DoNotOptimize(find("local/lib/pypy3.11/dist-packages/django/db/models"));
}
BENCHMARK(find_django);

void attributes(benchmark::State& state) {
  const auto file = library();
  for (auto _ : state) benchmark::DoNotOptimize(image().attributes(file));
}
BENCHMARK(attributes);

}  // namespace
