#include "registry/fetcher.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <random>
#include <thread>
#include <vector>

#include "image-builder/digest.h"
#include "image-builder/output_file.h"
#include "registry/chunk_writer.h"
#include "registry/confinement.h"
#include "registry/fetch_plan.h"
#include "registry/fetch_queue.h"
#include "registry/range_request.h"
#include "registry/trailer.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long until the next try: twice as long each time, and by chance something between half of it
// and all of it. As long as somebody waits, it is tried more often.
constexpr milliseconds kFirstPause{250};
constexpr milliseconds kLongestPause{60'000};
constexpr milliseconds kPauseWhileWaiting{2'000};
// Between two looks at what isn't told.
constexpr int kTickMilliseconds = 100;
constexpr std::chrono::seconds kBetweenLooks{2};

class Backoff {
 public:
  milliseconds next() {
    const auto longest = std::min(kFirstPause * (1U << std::min(failures_, 10U)), kLongestPause);
    ++failures_;
    std::random_device chance;
    return milliseconds(
        std::uniform_int_distribution<std::int64_t>(longest.count() / 2, longest.count())(chance));
  }
  void reset() { failures_ = 0; }

 private:
  unsigned failures_ = 0;
};

std::vector<bool> what_is_here(const LazyImage& image) {
  std::vector<bool> here;
  for (std::uint32_t chunk = 0; chunk < image.sizes().chunks(); ++chunk) {
    here.push_back(image.is_here(chunk));
  }
  return here;
}

class Fetcher {
 public:
  explicit Fetcher(const LazyImage& image)
      : image_(image), source_(image.read_source()), rate_(source_.rate) {
    const std::uint32_t trailer = image.sizes().chunks() - 1;
    if (!has_tree(trailer)) image_.note(trailer, false);
  }

  void run() {
    get_tree();
    queue_.emplace(what_is_here(image_));
    const std::jthread planner([this] { plan(); });
    // Each with a connection of its own, once it has something to do: what programs wait for does
    // not wait for anything else, also where a server stalls.
    std::vector<std::jthread> lanes;
    for (const Run::Why last : {Run::Why::kBackground, Run::Why::kHot, Run::Why::kWanted}) {
      lanes.emplace_back([this, last] { fetch_runs(last); });
    }
    for (;;) {
      watch();
      if (finish()) break;
    }
    queue_->stop();
  }

 private:
  // The tree that is here is read each time: a disk may have lost it.
  bool has_tree(std::uint32_t trailer) {
    if (!image_.is_here(trailer)) return false;
    try {
      tree_.emplace(read_tree(image_, source_));
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  void get_tree() {
    Backoff backoff;
    while (!tree_) {
      try {
        tree_.emplace(fetch_trailer(*source_.connect(0), image_, source_));
      } catch (const Error& error) {
        image_.add_error(error.what());
        std::this_thread::sleep_for(backoff.next());
        leave_where_unwanted();
      }
    }
  }

  void plan() noexcept {
    try {
      FetchPlan plan = plan_fetch(image_);
      queue_->set_order(plan.hot, std::move(plan.later));
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
      // Then everything comes from the beginning to the end.
    }
  }

  // What a thread that fetches does, all its life.
  void fetch_runs(Run::Why last) noexcept {
    std::unique_ptr<Session> session;
    Backoff backoff;
    while (const auto run = queue_->take(last)) {
      try {
        if (!session) session = source_.connect(0);
        fetch(*session, *run);
        backoff.reset();
        if (has_error_.exchange(false)) image_.clear_error();
        continue;
      } catch (const std::exception& error) {
        note_error(error.what());
      }
      // A new one looks for its credentials again.
      session.reset();
      queue_->give_back(*run);
      queue_->pause(backoff.next(), kPauseWhileWaiting);
    }
  }

  void note_error(const char* what) noexcept {
    try {
      has_error_ = true;
      image_.add_error(what);
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): the disk is full.
    }
  }

  void fetch(Session& session, const Run& run) {
    ChunkWriter writer(
        image_, *tree_,
        [this](std::uint32_t chunk) {
          queue_->set_here(chunk);
          arrived_ += image_.range_of(chunk).length;
        },
        [&] { return run.why != Run::Why::kBackground || queue_->somebody_waits(); });
    if (run.first + 1 == image_.sizes().chunks()) {
      (void)fetch_trailer(session, image_, source_);
      queue_->set_here(run.first);
      return;
    }
    Patience patience(0);
    const RangeWanted wanted{.url = source_.url,
                             .size = image_.sizes().size,
                             .rate = run.why == Run::Why::kBackground ? rate_.load() : 0,
                             .take = [&](std::uint64_t position, std::span<const std::byte> bytes) {
                               writer.take(position, bytes);
                             }};
    try {
      fetch_range(session, wanted, patience, [&] {
        writer.flush();
        writer.refuse_wrong_bytes();
        return rest_of(run);
      });
    } catch (...) {
      writer.flush();
      throw;
    }
  }

  // From the first chunk on that has not come.
  [[nodiscard]] ByteRange rest_of(const Run& run) const {
    std::uint32_t first = run.first;
    const std::uint32_t end = run.first + run.count;
    while (first < end && image_.is_here(first)) ++first;
    if (first == end) return {};
    const ByteRange last = image_.range_of(end - 1);
    const std::uint64_t begin = image_.range_of(first).position;
    return {begin, last.position + last.length - begin};
  }

  // Returns when everything has come.
  void watch() {
    auto looked = Clock::now();
    auto counted = looked;
    while (!queue_->is_whole()) {
      pollfd waiting{image_.requests(), POLLIN, 0};
      ::poll(&waiting, 1, kTickMilliseconds);
      read_requests();
      const auto now = Clock::now();
      if (now - counted >= std::chrono::seconds(1)) {
        count(std::chrono::duration_cast<milliseconds>(now - counted));
        counted = now;
      }
      if (now - looked >= kBetweenLooks) {
        leave_where_unwanted();
        rate_ = image_.read_source().rate;
        looked = now;
      }
    }
    count(milliseconds(1000));
  }

  // For people.
  void count(milliseconds time) {
    std::uint64_t here = 0;
    for (std::uint32_t chunk = 0; chunk < image_.sizes().chunks(); ++chunk) {
      if (image_.is_here(chunk)) here += image_.range_of(chunk).length;
    }
    const auto milliseconds_passed =
        static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 1));
    image_.set_progress(here, arrived_.exchange(0) * 1000 / milliseconds_passed);
  }

  void read_requests() {
    if (image_.requests() < 0) return;
    std::array<PartialRequest, 256> requests;
    const ssize_t got = ::read(image_.requests(), requests.data(), sizeof requests);
    for (ssize_t i = 0; (i + 1) * static_cast<ssize_t>(sizeof(PartialRequest)) <= got; ++i) {
      const PartialRequest& request = requests.at(static_cast<std::size_t>(i));
      if (request.kind == PartialRequest::Kind::kWanted) {
        queue_->want(request.first, request.count);
      } else if (request.kind == PartialRequest::Kind::kSoon) {
        queue_->announce(request.first, request.count);
      } else if (request.kind == PartialRequest::Kind::kDoubted) {
        look_again(request.first, request.count);
      }
    }
  }

  // Whether the chunk that is here is what was packed.
  [[nodiscard]] bool is_sound(std::uint32_t chunk) const {
    const ByteRange range = image_.range_of(chunk);
    std::vector<std::byte> bytes(range.length);
    try {
      if (chunk + 1 == image_.sizes().chunks()) {
        (void)read_tree(image_, source_);
        return true;
      }
      if (pread_full(image_.descriptor(), bytes, range.position) != bytes.size()) return false;
      tree_->check(range.position, bytes);
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  // Returns how many of these have to come again.
  std::uint32_t look_again(std::uint32_t first, std::uint32_t count) {
    std::uint32_t bad = 0;
    for (std::uint32_t chunk = first; chunk < image_.sizes().chunks() && chunk - first < count;
         ++chunk) {
      if (!image_.is_here(chunk) || is_sound(chunk)) continue;
      image_.note(chunk, false);
      queue_->set_missing(chunk);
      queue_->want(chunk, 1);
      ++bad;
    }
    return bad;
  }

  void leave_where_unwanted() const {
    const bool is_ours = image_.has_its_directory();
    if (is_ours && image_.has_its_name()) return;
    if (is_ours) LazyImage::remove(image_.directory());
    // Other threads may wait for the network for long; nothing of theirs is worth keeping.
    ::_exit(0);
  }

  // Gives the image its name, once more checked as a whole. False where something has to come
  // again.
  bool finish() {
    const auto is_right = [this] {
      return source_.file_digest.empty() ||
             "sha256:" + builder::sha256_of_file(image_.data()) == source_.file_digest;
    };
    const std::uint32_t chunks = image_.sizes().chunks();
    if (source_.file_digest.empty() || !is_right()) {
      if (look_again(0, chunks) > 0) return false;
      if (!is_right()) {
        // All but the signature is covered by the tree.
        tree_.emplace(fetch_trailer(*source_.connect(source_.session.retries), image_, source_));
        if (!is_right()) {
          throw Error(ExitCode::kVerification, "refusing what came from " + quote(source_.name) +
                                                   ": it is not " + source_.file_digest +
                                                   ", although its Merkle tree is as it has to be");
        }
      }
    }
    leave_where_unwanted();
    builder::put_in_place(image_.data(), image_.target());
    image_.set_whole();
    LazyImage::remove(image_.directory());
    return true;
  }

  const LazyImage& image_;
  const LazySource source_;
  std::atomic<std::uint64_t> rate_;
  std::optional<MerkleTree> tree_;
  std::optional<FetchQueue> queue_;
  std::atomic<std::uint64_t> arrived_ = 0;  // Bytes since they were last counted.
  std::atomic<bool> has_error_ = false;
};

}  // namespace

void fetch_image(const fs::path& directory) {
  const LazyImage image(directory);
  if (!image.lock()) return;
  confine_fetcher({directory.parent_path(), image.target().parent_path()});
  try {
    Fetcher(image).run();
  } catch (const Error& error) {
    image.add_error(error.what());
    throw;
  }
}

}  // namespace pyram::registry
