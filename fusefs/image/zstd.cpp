// The only file that includes zstd's header.
#include <zstd.h>

#include <memory>
#include <new>

#include "fusefs/image/decompress.h"

namespace pyram {
namespace {

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

}  // namespace

std::optional<std::size_t> decompress_zstd(std::span<const std::byte> input,
                                           std::span<std::byte> output) {
  // A context is 160 KB that would otherwise be allocated, faulted in and freed for each block.
  thread_local std::unique_ptr<ZSTD_DCtx, FreeContext> context;
  // Memory that was short once may be there the next time.
  if (!context) context.reset(ZSTD_createDCtx());
  if (!context) throw std::bad_alloc();
  const std::size_t size =
      ZSTD_decompressDCtx(context.get(), output.data(), output.size(), input.data(), input.size());
  if (ZSTD_isError(size) != 0) return std::nullopt;
  return size;
}

}  // namespace pyram
