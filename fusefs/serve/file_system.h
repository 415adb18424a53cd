// Answers the kernel's requests from an image: the FUSE operations.
//
// Nothing is remembered about an inode that the kernel knows: a node's number is its place in the
// image. So a worker that replaced another one can answer for nodes that it never handed out.
//
// This and the session know libfuse, and nothing else does. Each operation is a boundary: an Error
// becomes its errno, and nothing is thrown into C code. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fusefs/image/image.h"
#include "fusefs/log.h"
#include "fusefs/serve/extent_mapper.h"
#include "fusefs/serve/listing_cache.h"
#include "fusefs/serve/page_cache_filler.h"
#include "fusefs/serve/recorder.h"
#include "fusefs/statistics.h"
#include "support/error.h"

struct fuse_lowlevel_ops;
struct fuse_req;

namespace pyram {

struct Presentation {
  std::optional<uid_t> uid;  // Everything belongs to these, whatever the image says.
  std::optional<gid_t> gid;
};

// What requests to the daemon itself get (status.h): the ioctls on the mount's root.
struct DaemonCalls {
  // Says why it can't be, or nothing once it will be. Throws nothing.
  using ReloadAnswer = std::function<void(std::string_view)>;

  // The text of --status. Called from any thread.
  std::function<std::string()> status;
  // The mount's owner asks for a worker of the program that is on disk now. Empty: there is no
  // supervisor to start one.
  std::function<void(ReloadAnswer)> reload;
};

class FileSystem {
 public:
  // `recorder` writes down what is asked for, and may be null. All but `presentation` and `calls`
  // have to outlive the file system.
  FileSystem(const Image& image, ExtentMapper& extents, PageCacheFiller& filler,
             Statistics& statistics, Log& log, Presentation presentation, DaemonCalls calls,
             Recorder* recorder)
      : image_(image),
        extents_(extents),
        filler_(filler),
        statistics_(statistics),
        log_(log),
        presentation_(presentation),
        calls_(std::move(calls)),
        recorder_(recorder) {}

  // For fuse_session_new, with a FuseUser (fuse_api.h) as its user data.
  [[nodiscard]] static const fuse_lowlevel_ops& operations();

  // Gives back the memory of what is only kept for speed.
  void forget() { listings_.clear(); }

 private:
  friend struct Operations;

  // Logs why a request about `node` failed, and of which file.
  void log_failure(std::uint64_t node, const Error& error) noexcept;
  // Once, when an error may come from that.
  void tell_of_overwriting();
  void read(fuse_req* request, InodeRef file, std::size_t size, std::uint64_t offset);

  const Image& image_;
  ExtentMapper& extents_;
  PageCacheFiller& filler_;
  Statistics& statistics_;
  Log& log_;
  const Presentation presentation_;
  const DaemonCalls calls_;
  Recorder* const recorder_;
  std::atomic_flag told_of_overwriting_;
  ListingCache listings_;
};

// FUSE's number for an inode, and back. The kernel keeps 1 for the root.
[[nodiscard]] std::uint64_t to_node(const Image& image, InodeRef inode);
[[nodiscard]] InodeRef to_inode(const Image& image, std::uint64_t node);

}  // namespace pyram
