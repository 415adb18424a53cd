#include "registry/lazy_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "registry/partial_file.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

UniqueFd open_to_write(const fs::path& path, int flags) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0644));
  if (!file) throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(path.native()));
  return file;
}

void write_at(int fd, std::uint64_t position, std::span<const std::byte> bytes,
              const fs::path& path) {
  if (!pwrite_full(fd, bytes, position)) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(path.native()));
  }
}

void resize(int fd, std::uint64_t size, const fs::path& path) {
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(path.native()));
  }
}

// Who may read the image may ask for its parts.
void make_pipe_file(const fs::path& path) {
  // Without it (some file systems have none) everything comes in its turn.
  if (::mkfifo(path.c_str(), 0666) == 0) ::chmod(path.c_str(), 0666);
}

}  // namespace

std::unique_ptr<Session> LazySource::connect(unsigned retries) const {
  SessionOptions options = session;
  options.retries = retries;
  return std::make_unique<Session>(options, host, repository,
                                   repository.empty() ? "" : "repository:" + repository + ":pull");
}

void LazyImage::create(const fs::path& directory, std::uint64_t size, std::uint64_t data_size,
                       const LazySource& source) {
  remove(directory);
  if (::mkdir(directory.c_str(), 0755) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno,
                       "make the directory " + quote(directory.native()));
  }
  try {
    {
      PartialFile data(directory / "data");
      data.reserve(size);
    }
    const fs::path data = directory / "data";
    resize(open_to_write(data, 0).get(), size, data);
    make_pipe_file(directory / "ask");
    // Last: without it there is no image.
    MapHead head;
    head.chunk_size = kChunk;
    head.size = size;
    head.data_size = data_size;
    std::vector<std::byte> map(MapHead::kRoom + head.chunks());
    std::ranges::copy(std::as_bytes(std::span(&head, 1)), map.begin());
    const fs::path file = directory / "map";
    write_file(directory / "source", "");
    write_file(file, {reinterpret_cast<const char*>(map.data()), map.size()});
    LazyImage(directory).write_source(source);
  } catch (...) {
    remove(directory);
    throw;
  }
}

LazyImage::LazyImage(fs::path directory) : directory_(std::move(directory)) {
  data_ = open_to_write(data(), 0);
  map_ = open_to_write(directory_ / "map", 0);
  UniqueFd map(::fcntl(map_.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  UniqueFd ask(::open((directory_ / "ask").c_str(), O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  partial_ = std::make_unique<PartialImage>(std::move(map), std::move(ask),
                                            quote(directory_.native()), directory_.native());
  sizes_ = partial_->head();
}

bool LazyImage::lock() const {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(map_.get(), F_OFD_SETLK, &lock) == 0;
}

fs::path LazyImage::target() const {
  return (directory_ / read_source().target).lexically_normal();
}

bool LazyImage::has_its_directory() const {
  struct stat named {};
  struct stat ours {};
  return ::stat(data().c_str(), &named) == 0 && ::fstat(data_.get(), &ours) == 0 &&
         named.st_dev == ours.st_dev && named.st_ino == ours.st_ino;
}

bool LazyImage::has_its_name() const {
  try {
    const fs::path name = target();
    struct stat status {};
    if (::stat(name.c_str(), &status) != 0) return errno != ENOENT && errno != ENOTDIR;
    if (status.st_size >= static_cast<off_t>(kLongestStub)) return false;
    const auto found = parse_stub(read_file(name));
    return found && fs::equivalent(name.parent_path() / *found, directory_);
  } catch (const fs::filesystem_error&) {
    return false;
  }
}

LazySource LazyImage::read_source() const {
  const fs::path path = directory_ / "source";
  const json text = json::parse(read_file(path), nullptr, false);
  LazySource source;
  try {
    source.name = text.at("name");
    source.url = text.at("url");
    source.host = text.at("host");
    source.repository = text.at("repository");
    source.image_digest = text.at("image_digest");
    source.file_digest = text.at("file_digest");
    source.target = text.at("target");
    source.rate = text.at("rate");
    source.session.retries = text.at("retries");
    source.session.http.patience = std::chrono::seconds(text.at("timeout").get<unsigned>());
    source.session.http.certificates = text.at("certificates").get<std::string>();
  } catch (const json::exception&) {
    throw Error(ExitCode::kBadImage, "cannot use " + quote(path.native()) +
                                         ": it does not say where the image comes from; pull it "
                                         "again");
  }
  return source;
}

void LazyImage::write_source(const LazySource& source) const {
  const json text = {{"name", source.name},
                     {"url", source.url},
                     {"host", source.host},
                     {"repository", source.repository},
                     {"image_digest", source.image_digest},
                     {"file_digest", source.file_digest},
                     {"target", source.target},
                     {"rate", source.rate},
                     {"retries", source.session.retries},
                     {"timeout", source.session.http.patience.count()},
                     {"certificates", source.session.http.certificates.native()}};
  write_file(directory_ / "source", text.dump(1) + "\n");
}

ByteRange LazyImage::range_of(std::uint32_t chunk) const {
  if (chunk + 1 == sizes_.chunks()) return {sizes_.data_size, sizes_.size - sizes_.data_size};
  const std::uint64_t position = std::uint64_t{chunk} * sizes_.chunk_size;
  return {position, std::min<std::uint64_t>(sizes_.chunk_size, sizes_.data_size - position)};
}

bool LazyImage::is_here(std::uint32_t chunk) const { return partial_->is_here(range_of(chunk)); }

void LazyImage::write(std::uint64_t position, std::span<const std::byte> bytes) const {
  write_at(data_.get(), position, bytes, data());
}

void LazyImage::sync() const {
  if (::fdatasync(data_.get()) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(data().native()));
  }
}

void LazyImage::write_map(std::uint64_t position, std::span<const std::byte> bytes) const {
  write_at(map_.get(), position, bytes, directory_ / "map");
}

void LazyImage::note(std::uint32_t chunk, bool here) const {
  set(MapHead::kRoom + chunk, here ? std::byte{1} : std::byte{0});
}

void LazyImage::announce() const {
  const Lock lock(mutex_);
  set(offsetof(MapHead, changes), partial_->changes() + 1);
  partial_->wake_waiters();
}

void LazyImage::set_progress(std::uint64_t here, std::uint64_t rate) const {
  set(offsetof(MapHead, here), here);
  set(offsetof(MapHead, rate), rate);
}

void LazyImage::add_error(std::string_view text) const {
  decltype(MapHead::last_error) cut{};
  std::ranges::copy(text.substr(0, cut.size() - 1), cut.begin());
  const Lock lock(mutex_);
  set(offsetof(MapHead, last_error), cut);
  set(offsetof(MapHead, errors), partial_->head().errors + 1);
}

void LazyImage::clear_error() const { set(offsetof(MapHead, last_error), char{0}); }

void LazyImage::set_whole() const {
  set(offsetof(MapHead, is_whole), std::uint32_t{1});
  announce();
}

void LazyImage::remove(const fs::path& directory) {
  // What else somebody put there is not ours.
  for (const char* part : {"map", "ask", "source", "data"}) {
    ::unlink((directory / part).c_str());
  }
  ::rmdir(directory.c_str());
}

}  // namespace pyram::registry
