#include "fusefs/serve/file_system.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "fusefs/serve/fuse_api.h"
#include "fusefs/serve/waiting_room.h"
#include "fusefs/status.h"
#include "support/error.h"

namespace pyram {
namespace {

// The image never changes, so the kernel may keep what it was told for good (300 years).
constexpr double kForever = 1e10;

// Whether an errno says that something is wrong, and not just what was asked for.
bool is_failure(int error_number) {
  return error_number == EIO || error_number == ENOMEM || error_number == EFBIG;
}

}  // namespace

std::uint64_t to_node(const Image& image, InodeRef inode) {
  return inode == image.root() ? FUSE_ROOT_ID : inode.value + 2;
}

InodeRef to_inode(const Image& image, std::uint64_t node) {
  return node == FUSE_ROOT_ID ? image.root() : InodeRef{node - 2};
}

// A friend of FileSystem with a static function for each FUSE operation, in libfuse's order.
struct Operations {
  static FileSystem& self(fuse_req_t request) {
    return FuseUser::of(fuse_req_userdata(request)).file_system;
  }

  // Runs `action`, which either throws or replies, once. libfuse frees a request with its reply: so
  // a reply is the last thing that an action does, or nothing that comes after it throws.
  template <typename Action>
  static void answer(fuse_req_t request, fuse_ino_t node, Action&& action) noexcept {
    FileSystem& fs = self(request);
    int error_number = EIO;
    try {
      const MetadataLimit limit;
      action(fs, to_inode(fs.image_, node));
      return;
    } catch (const NotHereYet& missing) {
      WaitingRoom::set_missing(missing.range());
      // Frees it and says nothing: it is processed again.
      fuse_reply_none(request);
      return;
    } catch (const Error& error) {
      error_number = error.error_number();
      if (is_failure(error_number)) {
        fs.statistics_.errors.add();
        if (error.code() == ExitCode::kVerification) fs.statistics_.verify_failures.add();
        fs.log_failure(node, error);
      }
    } catch (const std::bad_alloc&) {
      error_number = ENOMEM;
      fs.statistics_.errors.add();
    } catch (...) {
      fs.statistics_.errors.add();
    }
    fuse_reply_err(request, error_number);
  }

  static struct stat status_of(const FileSystem& fs, const Attributes& attributes) {
    struct stat status {};
    status.st_ino = attributes.inode_number;
    status.st_mode = attributes.mode;
    status.st_nlink = attributes.nlink;
    status.st_uid = fs.presentation_.uid.value_or(attributes.uid);
    status.st_gid = fs.presentation_.gid.value_or(attributes.gid);
    status.st_rdev = attributes.device;
    status.st_size = static_cast<off_t>(attributes.size);
    // As Linux's squashfs counts: only files take room, and their holes take none.
    status.st_blocks = static_cast<blkcnt_t>((attributes.data_bytes + 511) / 512);
    status.st_mtim.tv_sec = attributes.mtime;
    status.st_ctim = status.st_mtim;
    status.st_atim = status.st_mtim;
    return status;
  }

  static fuse_entry_param entry_of(FileSystem& fs, InodeRef inode, const Attributes& attributes) {
    fuse_entry_param entry{};
    entry.ino = to_node(fs.image_, inode);
    entry.attr = status_of(fs, attributes);
    fs.filler_.note_inode(inode, attributes);
    entry.attr_timeout = kForever;
    entry.entry_timeout = kForever;
    return entry;
  }

  static void init(void* user_data, fuse_conn_info* connection) noexcept {
    // Listings bring names and attributes along, always: importlib asks for most of them next.
    constexpr std::uint32_t kUnwanted = FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA |
                                        FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                                        FUSE_CAP_SPLICE_MOVE;
    constexpr std::uint32_t kWanted = FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS |
                                      FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_PARALLEL_DIROPS |
                                      FUSE_CAP_ASYNC_READ;
    connection->want = (connection->want & ~kUnwanted) | (connection->capable & kWanted);
    const FileSystem& fs = FuseUser::of(user_data).file_system;
    // Without reading ahead the kernel asks for what is really used.
    connection->max_readahead = fs.recorder_ != nullptr ? 0 : 1U << 20;
    // Requests that wait for the network must not keep the kernel from sending others.
    constexpr unsigned kWaiting = 1024;
    if (fs.image_.partial() != nullptr) {
      connection->max_background = kWaiting;
      connection->congestion_threshold = kWaiting;
    }
  }

  static void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
    answer(request, parent, [&](FileSystem& fs, InodeRef directory) {
      const std::string_view wanted = name;
      fuse_entry_param entry{};
      entry.entry_timeout = kForever;  // Node 0: the name does not exist, and never will.
      // Only an NFS server asks for these two, by node number.
      if (wanted == "." || wanted == "..") {
        const auto found = wanted == "." ? directory : fs.image_.parent(directory);
        if (found) entry = entry_of(fs, *found, fs.image_.attributes(*found));
      } else if (const auto found = fs.image_.lookup(directory, wanted)) {
        if (fs.recorder_ != nullptr) fs.recorder_->note_name(directory, found->name, found->inode);
        entry = entry_of(fs, found->inode, fs.image_.attributes(*found));
      }
      fuse_reply_entry(request, &entry);
    });
  }

  static void forget(fuse_req_t request, fuse_ino_t, std::uint64_t) { fuse_reply_none(request); }
  static void forget_multi(fuse_req_t request, std::size_t, fuse_forget_data*) {
    fuse_reply_none(request);
  }

  static void getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
    answer(request, node, [&](const FileSystem& fs, InodeRef inode) {
      const struct stat status = status_of(fs, fs.image_.attributes(inode));
      fuse_reply_attr(request, &status, kForever);
    });
  }

  static void readlink(fuse_req_t request, fuse_ino_t node) {
    answer(request, node, [&](const FileSystem& fs, InodeRef inode) {
      fuse_reply_readlink(request, fs.image_.link_target(inode).c_str());
    });
  }

  // ENOSYS tells the kernel that opening needs no request: it never sends another one.
  static void open(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
    fuse_reply_err(request, ENOSYS);
  }
  static void opendir(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
    fuse_reply_err(request, ENOSYS);
  }

  static void read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                   fuse_file_info*) {
    answer(request, node, [&](FileSystem& fs, InodeRef file) {
      fs.read(request, file, size, static_cast<std::uint64_t>(offset));
    });
  }

  // A listing's answer, until it is full. kPlus: with all that a look-up would tell.
  template <bool kPlus>
  class Listing {
   public:
    Listing(fuse_req_t request, std::size_t size)
        : request_(request), buffer_(std::min(size, kLargest)) {}

    // False where it is full.
    [[nodiscard]] bool add(const char* name, const fuse_entry_param& entry, std::uint64_t next) {
      const auto offset = static_cast<off_t>(next);
      char* const place = &buffer_[used_];
      const std::size_t room = buffer_.size() - used_;
      const std::size_t needed =
          kPlus ? fuse_add_direntry_plus(request_, place, room, name, &entry, offset)
                : fuse_add_direntry(request_, place, room, name, &entry.attr, offset);
      if (needed > room) return false;
      used_ += needed;
      return true;
    }
    [[nodiscard]] bool empty() const { return used_ == 0; }
    void reply() const { fuse_reply_buf(request_, buffer_.data(), used_); }

   private:
    static constexpr std::size_t kLargest = std::size_t{64} * 1024;
    const fuse_req_t request_;
    std::vector<char> buffer_;
    std::size_t used_ = 0;
  };

  // Node 0: the kernel takes it for listing only, and asks when somebody wants more of it.
  static fuse_entry_param name_only(mode_t type, std::uint32_t inode_number) {
    fuse_entry_param entry{};
    entry.attr.st_mode = type;
    entry.attr.st_ino = inode_number;
    return entry;
  }

  // The number of the directory that `directory` lies in: its own where that can't be told. Nothing
  // but a listing shows it.
  static std::uint32_t parent_number(const FileSystem& fs, InodeRef directory) {
    try {
      if (const auto parent = fs.image_.parent(directory)) {
        return fs.image_.attributes(*parent).inode_number;
      }
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): as without an index of inodes.
    }
    return fs.image_.attributes(directory).inode_number;
  }

  template <bool kPlus>
  static fuse_entry_param listed(FileSystem& fs, InodeRef directory, const DirectoryEntry& found) {
    if constexpr (kPlus) {
      if (fs.recorder_ != nullptr) fs.recorder_->note_name(directory, found.name, found.inode);
      try {
        return entry_of(fs, found.inode, fs.image_.attributes(found));
      } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
        // One damaged inode keeps nobody from the others. Who asks for it gets the error.
      }
    }
    return name_only(found.type, found.inode_number);
  }

  // Offsets of a listing: 0 and 1 come before "." and "..", N + 2 is place N in the image.
  template <bool kPlus>
  static void list(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset,
                   fuse_file_info*) {
    answer(request, node, [&](FileSystem& fs, InodeRef directory) {
      Listing<kPlus> listing(request, size);
      auto place = static_cast<std::uint64_t>(offset);
      for (; place < 2; ++place) {
        const std::uint32_t number = place == 0 ? fs.image_.attributes(directory).inode_number
                                                : parent_number(fs, directory);
        if (!listing.add(place == 0 ? "." : "..", name_only(S_IFDIR, number), place + 1)) break;
      }
      if (place >= 2) add_entries(fs, directory, place - 2, listing);
      listing.reply();
    });
  }

  template <bool kPlus>
  static void add_entries(FileSystem& fs, InodeRef directory, std::uint64_t place,
                          Listing<kPlus>& listing) {
    try {
      ListingCursor cursor = fs.listings_.take(fs.image_, directory, place);
      for (;;) {
        const ListingCursor before = cursor;
        const std::optional<DirectoryEntry> found = Image::next_entry(cursor);
        if (!found) return;
        const fuse_entry_param entry = listed<kPlus>(fs, directory, *found);
        if (!listing.add(found->name.c_str(), entry, found->next_offset + 2)) {
          fs.listings_.put(directory, before);
          return;
        }
      }
    } catch (const Error&) {
      // What comes before the damage is told; the next request begins with the damage.
      if (listing.empty()) throw;
    }
  }

  static void statfs(fuse_req_t request, fuse_ino_t node) {
    answer(request, node, [&](const FileSystem& fs, InodeRef) {
      const Superblock& super = fs.image_.superblock();
      struct statvfs status {};
      status.f_bsize = super.block_size;
      status.f_frsize = super.block_size;
      status.f_blocks = (super.bytes_used + super.block_size - 1) / super.block_size;
      status.f_files = super.inode_count;
      status.f_namemax = 256;
      fuse_reply_statfs(request, &status);
    });
  }

  // ENOSYS where the image has no attributes at all: the kernel never asks again.
  static void getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size) {
    answer(request, node, [&](const FileSystem& fs, InodeRef inode) {
      if (!fs.image_.has_xattrs()) return static_cast<void>(fuse_reply_err(request, ENOSYS));
      const std::optional<std::string> value = fs.image_.xattr(inode, name);
      if (!value) return static_cast<void>(fuse_reply_err(request, ENODATA));
      reply_xattr(request, *value, size);
    });
  }
  static void listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size) {
    answer(request, node, [&](const FileSystem& fs, InodeRef inode) {
      if (!fs.image_.has_xattrs()) return static_cast<void>(fuse_reply_err(request, ENOSYS));
      std::string names;
      for (const std::string& name : fs.image_.xattr_names(inode)) names.append(name) += '\0';
      reply_xattr(request, names, size);
    });
  }
  static void reply_xattr(fuse_req_t request, const std::string& value, std::size_t size) {
    if (size == 0) {
      fuse_reply_xattr(request, value.size());
    } else if (size < value.size()) {
      fuse_reply_err(request, ERANGE);
    } else {
      fuse_reply_buf(request, value.data(), value.size());
    }
  }

  // Whether the caller may tell the daemon what to do: the one whose mount it is, and root.
  static bool is_owner(fuse_req_t request) {
    const uid_t caller = fuse_req_ctx(request)->uid;
    return caller == 0 || caller == ::geteuid();
  }

  static void quiesce(fuse_req_t request, fuse_ino_t node) {
    answer(request, node, [&](const FileSystem& fs, InodeRef) {
      const auto done = [request] { fuse_reply_ioctl(request, 0, nullptr, 0); };
      fs.filler_.stop_prefetch(done);
    });
  }

  static void reload(fuse_req_t request, fuse_ino_t node) {
    answer(request, node, [&](const FileSystem& fs, InodeRef) {
      // It may be called later, where nothing catches an exception: so it allocates nothing.
      const auto done = [request](std::string_view why) {
        std::array<char, kReloadSize> text{};
        std::ranges::copy(why.substr(0, text.size() - 1), text.begin());
        fuse_reply_ioctl(request, 0, text.data(), text.size());
      };
      fs.calls_.reload ? fs.calls_.reload(done) : done("it runs without a supervisor");
    });
  }

  static void ioctl(fuse_req_t request, fuse_ino_t node, unsigned int command, void*,
                    fuse_file_info*, unsigned, const void*, std::size_t, std::size_t room) {
    // PyPy asks every file that it opens whether it is a terminal: that is nearly all there is.
    const bool quiesces = node == FUSE_ROOT_ID && command == kQuiesceCommand;
    const bool reloads = node == FUSE_ROOT_ID && command == kReloadCommand && room == kReloadSize;
    if ((quiesces || reloads) && !is_owner(request)) {
      fuse_reply_err(request, EPERM);
      return;
    }
    if (quiesces) return quiesce(request, node);
    if (reloads) return reload(request, node);
    if (node != FUSE_ROOT_ID || command != kStatusCommand || room != kStatusSize) {
      fuse_reply_err(request, ENOTTY);
      return;
    }
    answer(request, node, [&](const FileSystem& fs, InodeRef) {
      std::string text = fs.calls_.status();
      text.resize(kStatusSize, '\0');
      fuse_reply_ioctl(request, 0, text.data(), text.size());
    });
  }
};

void FileSystem::tell_of_overwriting() {
  if (!image_.was_overwritten() || told_of_overwriting_.test_and_set()) return;
  log_.error("the image " + image_.name() +
             " was overwritten while it is mounted, which causes errors: mount it again (systemctl "
             "restart pyram-mount@NAME; or unmount and mount), and replace images by pyram-image "
             "install or mv, never by cp");
}

void FileSystem::log_failure(std::uint64_t node, const Error& error) noexcept {
  try {
    tell_of_overwriting();
    // Looking a name up takes longer than answering.
    if (log_.leaves_out()) return;
    const auto path = path_of(image_, to_inode(image_, node));
    log_.error((path ? "cannot read " + quote(*path) + ": " : std::string()) + error.what());
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    // No memory for a line: the program gets its error all the same.
  }
}

void FileSystem::read(fuse_req* request, InodeRef file, std::size_t size, std::uint64_t offset) {
  // Most reads lie in one block or two: those are answered out of the cache without a copy.
  std::array<std::optional<BlockCache::Pin>, BlockCache::kPinsPerReader> pins;
  std::array<iovec, BlockCache::kPinsPerReader> pieces{};
  std::size_t count = 0;
  std::size_t done = 0;
  std::vector<std::byte> copy;
  struct Part {
    Extent extent;
    std::size_t taken;
    bool decompressed;
  };
  std::optional<Part> part;  // Of a block that has more than was asked for.
  while (done < size) {
    const Extent extent = extents_.extent_at(file, offset + done);
    if (extent.length == 0) break;
    const auto skip = static_cast<std::size_t>(offset + done - extent.file_offset);
    const std::size_t take = std::min(size - done, extent.length - skip);
    const bool last = done + take == size || extent.length < image_.superblock().block_size;
    const bool can_pin = !extent.block.is_hole() && copy.empty() &&
                         (count + 1 < pins.size() || (count < pins.size() && last));
    if (can_pin) {
      pins[count].emplace(extents_.pin(extent));
      filler_.note_read(file, extent.block);
      if (take < extent.length || !extent.is_whole_block()) {
        part = {extent, take, pins[count]->is_new()};
      }
      const auto bytes = ExtentMapper::bytes(extent, *pins[count]).subspan(skip, take);
      // The type is made for reading as well; libfuse does not write.
      pieces[count++] = {const_cast<std::byte*>(bytes.data()), bytes.size()};  // NOLINT
    } else {
      if (copy.empty()) {
        copy.resize(size);
        std::size_t at = 0;
        for (std::size_t i = 0; i < count; ++i) {
          std::memcpy(&copy[at], pieces[i].iov_base, pieces[i].iov_len);
          at += pieces[i].iov_len;
          pins[i].reset();
        }
      }
      if (!extent.block.is_hole()) {
        const BlockCache::Pin pin = extents_.pin(extent);
        filler_.note_read(file, extent.block);
        std::memcpy(&copy[done], ExtentMapper::bytes(extent, pin).data() + skip, take);
      }
    }
    done += take;
  }
  statistics_.bytes_served.add(done);
  if (recorder_ != nullptr) recorder_->note_read(file, offset, done);
  if (copy.empty()) {
    fuse_reply_iov(request, pieces.data(), static_cast<int>(count));
  } else {
    fuse_reply_buf(request, reinterpret_cast<const char*>(copy.data()), done);
  }
  if (part) filler_.note_part(file, part->extent, part->taken, part->decompressed);
}

const fuse_lowlevel_ops& FileSystem::operations() {
  static const fuse_lowlevel_ops kOperations = [] {
    fuse_lowlevel_ops ops{};
    ops.init = Operations::init;
    ops.lookup = Operations::lookup;
    ops.forget = Operations::forget;
    ops.getattr = Operations::getattr;
    ops.readlink = Operations::readlink;
    ops.open = Operations::open;
    ops.read = Operations::read;
    ops.opendir = Operations::opendir;
    ops.readdir = Operations::list<false>;
    ops.statfs = Operations::statfs;
    ops.getxattr = Operations::getxattr;
    ops.listxattr = Operations::listxattr;
    ops.ioctl = Operations::ioctl;
    ops.forget_multi = Operations::forget_multi;
    ops.readdirplus = Operations::list<true>;
    return ops;
  }();
  return kOperations;
}

}  // namespace pyram
