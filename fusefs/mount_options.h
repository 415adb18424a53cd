// What the command line of pyram-mount says: what to do, with which image, how.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "fusefs/image/image.h"

namespace pyram {

enum class Action { kMount, kUnmount, kStatus, kExtract, kReload, kWork };
enum class Prefetch { kNone, kHot, kAll };
// kSummary is for people; the others have everything.
enum class StatusFormat { kSummary, kText, kJson, kPrometheus };

// What an option --worker says that both sides understand of each other.
inline constexpr char kWorkerProtocol[] = "1";
// The same of an image that is being fetched, with two handles more.
inline constexpr char kPartialWorkerProtocol[] = "2";

struct Options {
  Action action = Action::kMount;
  std::filesystem::path image;
  std::filesystem::path mount_point;  // Of kExtract the directory to make.
  int device = -1;  // A mount point /dev/fd/N: an open /dev/fuse that the caller has mounted.
  StatusFormat status_format = StatusFormat::kSummary;

  bool foreground = false;
  bool hot_first = false;  // Of kExtract: the directory is usable before all is in it.
  bool debug = false;
  unsigned threads = 0;  // 0: as many as serve well here.
  std::size_t cache_size = 8U << 20;
  Prefetch prefetch = Prefetch::kHot;
  std::uint64_t idle_timeout = 0;  // Seconds; 0: never.
  int ready_fd = -1;
  Image::Verify verify = Image::Verify::kNo;
  std::uint64_t fetch_timeout = 60;  // Seconds to wait for bytes that are fetched; 0: for ever.
  std::filesystem::path record;      // Where to write what was read; empty: nowhere.

  // From -o:
  std::uint64_t offset = 0;
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::filesystem::path notify_pipe;
  std::string subdirectory;  // Of the image, to show in its place; empty: all of it.
  bool allow_devices = false;
  bool allow_set_id = false;
  bool allow_other = false;
  bool allow_root = false;
  bool nonempty = false;
  bool no_exec = false;
  bool is_partial = false;  // Of kWork.
  bool supervise = true;    // The worker is a process of its own.
  bool confine = true;      // The worker can do nothing but serve.
  bool can_resend = true;   // False: as on a kernel before Linux 6.9.
};

}  // namespace pyram
