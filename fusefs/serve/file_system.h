// Answers the kernel's requests from an image: the FUSE operations.
//
// Nothing is remembered about an inode that the kernel knows: a node's number is its place in the
// image. So a daemon that took over from another one can answer for nodes it never handed out.
//
// One of the two parts that know libfuse (the other is the session). Each operation is a boundary:
// an Error becomes its errno, and nothing is thrown into C code. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fusefs/image/image.h"
#include "fusefs/log.h"
#include "fusefs/serve/block_filler.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/serve/fragment_index.h"
#include "fusefs/serve/listing_cache.h"
#include "fusefs/serve/part_reads.h"
#include "fusefs/serve/recorder.h"
#include "fusefs/statistics.h"
#include "fusefs/supervise/resume_state.h"
#include "support/error.h"

struct fuse_lowlevel_ops;
struct fuse_req;

namespace pyram {

struct Presentation {
  std::optional<uid_t> uid;  // Everything belongs to these, whatever the image says.
  std::optional<gid_t> gid;
};

class FileSystem {
 public:
  // All but `presentation` have to outlive the file system.
  FileSystem(const Image& image, ExtentMapper& reader, Statistics& statistics, Log& log,
             Transport& transport, Presentation presentation)
      : image_(image),
        reader_(reader),
        statistics_(statistics),
        log_(log),
        transport_(transport),
        presentation_(presentation),
        fragment_files_(image.superblock().block_size) {}

  // What --status gets to see: called when it asks, from any thread.
  void on_status(std::function<std::string()> call) { status_ = std::move(call); }

  // What happens when a client is about to unmount: has to call what it is given, once nothing of
  // ours is in the mount.
  void on_quiesce(std::function<void(std::function<void()>)> call) { quiesce_ = std::move(call); }
  // What happens when its owner asks for a worker of the program that is on disk now: has to call
  // what it is given, which throws nothing, with why it can't be, or with nothing once it will be.
  using ReloadAnswer = std::function<void(std::string_view)>;
  void on_reload(std::function<void(ReloadAnswer)> call) { reload_ = std::move(call); }
  // Told of every READ.
  void on_read(std::function<void(InodeRef)> call) { read_ = std::move(call); }
  // Puts what is worth it into the kernel's cache besides answering. Has to outlive the requests.
  void store_by(BlockFiller& storer) { storer_ = &storer; }
  // But not while somebody else is at it: what a prefetch stores soon is not to be stored twice.
  void store_unless(std::function<bool()> busy) { prefetching_ = std::move(busy); }
  // Writes down what is asked for. Has to outlive the file system.
  void record_to(Recorder& recorder) { recorder_ = &recorder; }

  // For fuse_session_new, together with a FileSystem as its user data.
  [[nodiscard]] static const fuse_lowlevel_ops& operations();

  [[nodiscard]] Statistics& statistics() { return statistics_; }
  [[nodiscard]] Log& log() { return log_; }
  [[nodiscard]] Transport& transport() { return transport_; }
  // Gives back the memory of what is only kept for speed.
  void forget() {
    listings_.clear();
    fragment_files_.clear();
  }

 private:
  friend struct Operations;

  // Says what a request about `node` failed of, and of which file.
  void log_failure(std::uint64_t node, const Error& error) noexcept;
  void read(fuse_req* request, InodeRef file, std::size_t size, std::uint64_t offset);
  // A READ took `taken` bytes of an extent whose block has more, and was decompressed for that, or
  // was there.
  void note_part(InodeRef file, const Extent& extent, std::size_t taken,
                 bool decompressed) noexcept;
  void offer_rest(InodeRef file, const Extent& extent, std::size_t taken, bool decompressed);

  const Image& image_;
  ExtentMapper& reader_;
  Statistics& statistics_;
  Log& log_;
  Transport& transport_;
  const Presentation presentation_;
  ListingCache listings_;
  std::function<std::string()> status_;
  std::function<void(std::function<void()>)> quiesce_;
  std::function<void(ReloadAnswer)> reload_;
  std::function<void(InodeRef)> read_;
  std::function<bool()> prefetching_;
  PartReads part_reads_;
  FragmentIndex fragment_files_;
  BlockFiller* storer_ = nullptr;
  Recorder* recorder_ = nullptr;
};

// FUSE's number for an inode, and back. The kernel keeps 1 for the root.
[[nodiscard]] std::uint64_t to_node(const Image& image, InodeRef inode);
[[nodiscard]] InodeRef to_inode(const Image& image, std::uint64_t node);

}  // namespace pyram
