#include "registry/lazy_pull.h"

#include <poll.h>
#include <sys/stat.h>

#include <cstdlib>
#include <utility>

#include "fusefs/image/image.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output_file.h"
#include "registry/range_request.h"
#include "registry/trailer.h"
#include "support/detached.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

// The one that is on its way, if it is what is meant.
std::unique_ptr<LazyImage> find_begun(const LazyWanted& wanted) {
  try {
    auto image = std::make_unique<LazyImage>(wanted.directory);
    const LazySource source = image->read_source();
    if (source.image_digest != wanted.source.image_digest || !image->has_its_name()) {
      return nullptr;
    }
    return image;
  } catch (const Error&) {
    return nullptr;
  }
}

void start_fetcher(const LazyImage& image) {
  if (image.partial().is_being_fetched()) return;
  std::error_code error;
  // It runs elsewhere.
  const char* const credentials = std::getenv("REGISTRY_AUTH_FILE");
  if (credentials != nullptr && *credentials != '\0') {
    ::setenv("REGISTRY_AUTH_FILE", fs::absolute(credentials).c_str(), 1);
  }
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  start_detached({error ? "pyram-image" : self.native(), "fetch", image.directory().native()});
}

// One that nobody wants any more is given up by its fetcher, which looks now and then.
void wait_for_another(const fs::path& directory) {
  constexpr int kTries = 100;
  constexpr int kMilliseconds = 100;
  for (int i = 0; i < kTries; ++i) {
    try {
      if (!LazyImage(directory).partial().is_being_fetched()) return;
    } catch (const Error&) {
      return;  // There is none.
    }
    ::poll(nullptr, 0, kMilliseconds);
  }
  throw Error(ExitCode::kCannotWrite, "cannot begin anew in " + quote(directory.native()) +
                                          ": a process still fetches there; try again");
}

Trailer check_trailer(const MerkleTree& tree, const LazyWanted& wanted) {
  builder::check_signer(tree.trailer(), wanted.source.name, wanted.keys);
  return tree.trailer();
}

// What makes it impossible to go on.
[[noreturn]] void refuse(const LazyWanted& wanted, const Error& error) {
  LazyImage::remove(wanted.directory);
  if (error.code() != ExitCode::kVerification && error.code() != ExitCode::kBadImage) throw error;
  const std::string start = "refusing what came from ";
  const std::string text = error.what();
  throw Error(ExitCode::kVerification,
              text.starts_with(start) ? text : start + quote(wanted.source.name) + ": " + text);
}

}  // namespace

std::optional<Trailer> begin_lazily(LazyWanted wanted) {
  wanted.source.target = wanted.image.lexically_relative(wanted.directory).native();
  if (const auto begun = find_begun(wanted)) {
    const Trailer trailer = check_trailer(read_tree(*begun, wanted.source), wanted);
    begun->write_source(wanted.source);
    start_fetcher(*begun);
    return trailer;
  }
  wait_for_another(wanted.directory);
  const auto session = wanted.source.connect(wanted.source.session.retries);
  try {
    if (wanted.size == 0) wanted.size = size_at(*session, wanted.source.url);
    const auto data_size = data_size_of(wanted.size);
    if (!data_size) return std::nullopt;
    LazyImage::create(wanted.directory, wanted.size, *data_size, wanted.source);
    const LazyImage image(wanted.directory);
    const Trailer trailer = check_trailer(fetch_trailer(*session, image, wanted.source), wanted);
    write_file(
        wanted.image,
        format_stub(wanted.directory.lexically_relative(wanted.image.parent_path()).native()));
    start_fetcher(image);
    return trailer;
  } catch (const NoRanges&) {
    LazyImage::remove(wanted.directory);
    return std::nullopt;
  } catch (const Error& error) {
    refuse(wanted, error);
  }
}

bool wait_until_whole(const fs::path& name, std::chrono::seconds patience,
                      const std::function<void(double)>& progress) {
  using Clock = std::chrono::steady_clock;
  struct stat status {};
  if (::stat(name.c_str(), &status) != 0 || status.st_size >= static_cast<off_t>(kLongestStub)) {
    return false;
  }
  std::optional<ImageFile> file;
  try {
    file.emplace(Image::open_file(name));
  } catch (const Error&) {
    return false;  // What it led to is gone.
  }
  if (file->partial() == nullptr) return false;
  const PartialImage& partial = *file->partial();
  const LazyImage image(partial.directory());
  LazySource source = image.read_source();
  source.rate = 0;  // Now somebody waits for all of it.
  image.write_source(source);
  auto moved = Clock::now();
  for (MapHead before;;) {
    const MapHead now = partial.head();
    if (now.is_whole != 0) return true;
    start_fetcher(image);
    progress(static_cast<double>(now.here) / static_cast<double>(now.size));
    if (now.changes != before.changes) moved = Clock::now();
    before = now;
    if (Clock::now() - moved >= patience) {
      const std::string why =
          now.last_error.front() != '\0' ? now.last_error.data() : "nothing came";
      throw Error(ExitCode::kBadSource,
                  "cannot fetch the rest of " + quote(source.name) + ": " + why);
    }
    partial.wait_for_change(now.changes, std::chrono::milliseconds(500));
  }
}

}  // namespace pyram::registry
