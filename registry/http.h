// HTTP by libcurl: one request, one answer. What is tried again, and who one says that one is, is
// session.h's affair.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/error.h"

namespace pyram::registry {

// A failure on the way. `passing`: trying again may help.
class TransferError : public Error {
 public:
  TransferError(const std::string& message, bool passing)
      : Error(ExitCode::kBadSource, message), passing_(passing) {}
  [[nodiscard]] bool passing() const { return passing_; }

 private:
  bool passing_;
};

struct Response {
  long status = 0;
  std::string url;   // Where the answer came from in the end.
  std::string body;  // Where nobody took it; its beginning, when it is long.
  std::vector<std::pair<std::string, std::string>> headers;  // Names in lower case.

  // The first header of that name; empty where there is none.
  [[nodiscard]] std::string header(std::string_view name) const;
};

// Bytes of a file that are sent.
struct FileRange {
  int descriptor = -1;
  std::uint64_t position = 0;
  std::uint64_t length = 0;
};

struct Request {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers{};  // "Name: value"
  std::string body{};                  // What is sent, unless a file is.
  std::optional<FileRange> file{};
  std::size_t most = std::size_t{64} << 10;  // Of Response::body.
  std::uint64_t most_per_second = 0;         // Bytes of the answer; 0: as they come.

  // Gets the body of an answer with status 200 or 206, as it comes; `so_far` has the headers. May
  // throw, which ends the transfer and comes out of Http::send().
  std::function<void(const Response& so_far, std::span<const std::byte> bytes)> take{};
  // Hears how many bytes of `file` were sent.
  std::function<void(std::uint64_t sent)> sent{};
};

struct HttpOptions {
  // How long nothing (less than a kilobyte each second) may come or go.
  std::chrono::seconds patience{30};
  // Certificates to check servers by; the system's where empty.
  std::filesystem::path certificates{};
};

// A connection that is kept between requests. Follows redirects, never from https to http; what
// says who one is goes to the first host only. Proxies as the environment says. Not thread-safe.
class Http {
 public:
  explicit Http(HttpOptions options);
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  // Whatever status the answer has. Throws TransferError where there is none, or not all of it.
  [[nodiscard]] Response send(const Request& request);

 private:
  class Exchange;
  struct Handle;

  HttpOptions options_;
  std::unique_ptr<Handle> handle_;
};

// The URL as it may be shown: what stands behind '?' may be a secret.
[[nodiscard]] std::string shown(std::string_view url);

// `text` as it may stand in a query.
[[nodiscard]] std::string url_encoded(std::string_view text);

// A URL that a server gave, seen from `base`. Throws TransferError for what is none, or isn't http
// or https, or would leave https.
[[nodiscard]] std::string resolve_url(const std::string& base, const std::string& given);

// Host (with its port, where it isn't the scheme's own) of an absolute URL.
[[nodiscard]] std::string host_of(const std::string& url);

}  // namespace pyram::registry
