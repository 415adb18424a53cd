// An image of which not everything is here yet: `pyram-image pull --lazy` made it, and a process of
// its own fetches the rest (registry/fetcher.h). This is the reader's side, and the form of the
// files, which both sides know.
//
// Under the image's name is a stub, a text: a first line, and "directory=PATH" (seen from the
// stub's own directory). The directory has
//   data    the image, as long as it will be, with holes
//   map     what of it is here: a MapHead, then a byte for each chunk, 1 where it is here. A chunk
//           is noted only after it was checked against the Merkle tree and is on the disk. The last
//           byte is that of everything behind the data: trailer and tree. Locked (OFD) by the
//           fetcher for as long as it lives
//   ask     a named pipe to the fetcher, of PartialRequests: what comes first
//   source  where it comes from; the fetcher's own affair
// When everything is here, the data take the stub's place. The map stays what it is for those who
// have it open, and says so.
//
// The map is read by pread and never through memory: no failing disk and no cut file can end the
// reader by a signal. Only the kernel looks at the mapped page, for the futex.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "support/unique_fd.h"

namespace pyram {

inline constexpr std::string_view kStubStart = "pyram lazy image 1\n";
inline constexpr std::size_t kLongestStub = 4096;

// The text of a stub whose directory is `directory`, seen from the stub's own.
[[nodiscard]] std::string format_stub(std::string_view directory);
// The directory that a stub's text names; nothing where the text is none.
[[nodiscard]] std::optional<std::string> parse_stub(std::string_view text);

// How a map begins. Numbers in the processor's order: a map stays on its machine.
struct MapHead {
  static constexpr std::array<char, 8> kMagic{'P', 'Y', 'R', 'A', 'M', 'M', 'A', 'P'};
  static constexpr std::uint32_t kVersion = 1;
  static constexpr std::uint64_t kRoom = 4096;  // The bytes of the chunks follow here.

  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t chunk_size = 0;
  std::uint64_t size = 0;       // Of the image's file.
  std::uint64_t data_size = 0;  // Of what the Merkle tree is of; the trailer follows.
  std::uint32_t changes = 0;    // Counts whenever a chunk has come: a futex.
  std::uint32_t is_whole = 0;   // Nothing is missing, and nothing ever will be.
  // For people:
  std::uint64_t here = 0;    // Bytes.
  std::uint64_t rate = 0;    // Bytes a second, of late.
  std::uint64_t errors = 0;  // Requests that failed.
  std::array<char, 400> last_error{};

  // Chunks of data, and one of the rest.
  [[nodiscard]] std::uint32_t chunks() const {
    return static_cast<std::uint32_t>((data_size + chunk_size - 1) / chunk_size) + 1;
  }
  [[nodiscard]] std::uint32_t chunk_of(std::uint64_t position) const {
    return position >= data_size ? chunks() - 1 : static_cast<std::uint32_t>(position / chunk_size);
  }
  [[nodiscard]] bool makes_sense() const;
};
static_assert(sizeof(MapHead) <= MapHead::kRoom);

// What a reader writes into `ask`, as a whole.
struct PartialRequest {
  enum class Kind : std::uint32_t {
    kWanted = 0x746e6177,   // Somebody waits for these chunks.
    kSoon = 0x6e6f6f73,     // Somebody is about to read these.
    kDoubted = 0x62756f64,  // What is here of them is not what was packed: look at it again.
  };
  Kind kind{};
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t reserved = 0;
};

// Bytes of the image.
struct ByteRange {
  std::uint64_t position = 0;
  std::uint64_t length = 0;
};

// Thrown in threads that must not wait (WhenAbsent). No Error: nothing is wrong.
class NotHereYet : public std::exception {
 public:
  explicit NotHereYet(ByteRange range) : range_(range) {}
  [[nodiscard]] const char* what() const noexcept override { return "not here yet"; }
  [[nodiscard]] ByteRange range() const { return range_; }

 private:
  ByteRange range_;
};

// What reading does where bytes are not here yet.
enum class Absent {
  kAskAndWait,   // The usual: asks for them, and waits for as long as it may.
  kWaitQuietly,  // Waits for its turn, until there is nobody to read for (end_quiet_waits).
  kThrow,        // Throws NotHereYet.
  kFail,         // As if the time had run out.
};

// Says so for this thread while it lives.
class WhenAbsent {
 public:
  explicit WhenAbsent(Absent what) noexcept;
  ~WhenAbsent();
  WhenAbsent(const WhenAbsent&) = delete;
  WhenAbsent& operator=(const WhenAbsent&) = delete;

 private:
  Absent outer_;
};

// Thread-safe, but for set_patience().
class PartialImage {
 public:
  // The longest wait unless told otherwise.
  static constexpr std::chrono::seconds kUsualPatience{60};

  // `directory` of a stub. Throws Error (kBadImage).
  struct Opened;
  [[nodiscard]] static Opened open(const std::string& directory, const std::string& name);
  // `ask` may be nothing: then everything comes in the fetcher's own order. `name` of the image is
  // for messages, quoted. Throws Error (kBadImage) for a map that makes no sense.
  PartialImage(UniqueFd map, UniqueFd ask, std::string name, std::string directory = {});
  ~PartialImage();
  PartialImage(const PartialImage&) = delete;
  PartialImage& operator=(const PartialImage&) = delete;

  // Another one of the same files. Throws Error (kFailed).
  [[nodiscard]] std::unique_ptr<PartialImage> copy() const;

  // Zero: for ever.
  void set_patience(std::chrono::seconds patience) { patience_ = patience; }
  [[nodiscard]] std::chrono::seconds patience() const { return patience_; }

  // Returns once the bytes are here; what happens before that, WhenAbsent says. Throws Error
  // (kFailed, EIO) when they did not come in time.
  void await(ByteRange range) const;
  [[nodiscard]] bool is_here(ByteRange range) const;
  // Has the fetcher take these before everything else.
  void ask_for(ByteRange range) const;
  // Has the fetcher take these after that, and before what nobody is known to need.
  void announce(ByteRange range) const;
  // What is here of them is wrong: has the fetcher look at it, and fetch it again.
  void doubt(ByteRange range) const;

  // A number that changes when something comes, and the wait for that, or for wake_waiters().
  [[nodiscard]] std::uint32_t changes() const;
  void wait_for_change(std::uint32_t seen, std::chrono::milliseconds at_most) const;
  void wake_waiters() const;
  // From now on nobody waits quietly.
  void end_quiet_waits() { quiet_waits_ended_ = true; }

  // What to say of bytes that did not come.
  [[nodiscard]] std::string describe_absence(ByteRange range) const;

  // The map's head as it is now.
  [[nodiscard]] MapHead head() const;
  // Whether a fetcher is at work.
  [[nodiscard]] bool is_being_fetched() const;
  // Where the files are; empty where that is not known.
  [[nodiscard]] const std::string& directory() const { return directory_; }
  [[nodiscard]] int map() const { return map_.get(); }
  [[nodiscard]] int ask() const { return ask_.get(); }

 private:
  void send(PartialRequest::Kind kind, ByteRange range) const;
  void wait(ByteRange range, bool asks) const;

  UniqueFd map_;
  UniqueFd ask_;
  std::string name_;
  std::string directory_;
  MapHead first_head_;  // Of which the sizes never change.
  void* page_ = nullptr;
  std::chrono::seconds patience_ = kUsualPatience;
  std::atomic<bool> quiet_waits_ended_ = false;
};

struct PartialImage::Opened {
  UniqueFd data;
  std::unique_ptr<PartialImage> partial;
};

}  // namespace pyram
