#include "registry/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>

#include "support/error.h"
#include "support/io.h"

namespace pyram::registry {
namespace {

constexpr long kMostRedirects = 8;
constexpr long kLeastRate = 1000;  // Bytes a second; less is a stall.
constexpr long kConnectSeconds = 15;
constexpr std::size_t kMostHeaders = std::size_t{64} << 10;

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// What a program has to do once before it uses the library.
void prepare_library() {
  static const CURLcode result = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  if (result != CURLE_OK) throw Error(ExitCode::kFailed, "cannot use libcurl: it does not start");
}

struct FreeUrl {
  void operator()(CURLU* url) const { ::curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (::curl_url_get(url, part, &text, flags) != CURLUE_OK || text == nullptr) return {};
  std::string result(text);
  ::curl_free(text);
  return result;
}

// Whether another try may end otherwise. (CURLE_UNSUPPORTED_PROTOCOL may be no HTTP at all: the
// rest of an earlier answer, on a connection that is kept.)
bool is_passing(CURLcode code) {
  constexpr std::array kLasting = {CURLE_URL_MALFORMAT,      CURLE_PEER_FAILED_VERIFICATION,
                                   CURLE_SSL_CACERT_BADFILE, CURLE_TOO_MANY_REDIRECTS,
                                   CURLE_SSL_CERTPROBLEM,    CURLE_OUT_OF_MEMORY};
  return std::find(kLasting.begin(), kLasting.end(), code) == kLasting.end();
}

}  // namespace

std::string Response::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

struct Http::Handle {
  struct Free {
    void operator()(CURL* easy) const { ::curl_easy_cleanup(easy); }
  };
  std::unique_ptr<CURL, Free> easy;
  std::array<char, CURL_ERROR_SIZE> message{};
};

// One request on its way. libcurl's callbacks are C: what is thrown in them is kept until it is
// back.
class Http::Exchange {
 public:
  Exchange(Handle& handle, const Request& request, const HttpOptions& options)
      : easy_(handle.easy.get()), message_(handle.message), request_(request), options_(options) {}

  Response run() {
    ::curl_easy_reset(easy_);
    set_up();
    set_up_body();
    message_.fill('\0');
    const CURLcode result = ::curl_easy_perform(easy_);
    if (failure_) std::rethrow_exception(failure_);
    if (result != CURLE_OK) fail(result);
    finish_headers();
    return std::move(response_);
  }

 private:
  struct FreeList {
    void operator()(curl_slist* list) const { ::curl_slist_free_all(list); }
  };

  template <typename Value>
  void set(CURLoption option, Value value) {
    if (::curl_easy_setopt(easy_, option, value) != CURLE_OK) {
      throw Error(ExitCode::kFailed,
                  "cannot use libcurl: it does not know an option that is needed");
    }
  }

  void set_up() {
    set(CURLOPT_ERRORBUFFER, message_.data());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_URL, request_.url.c_str());
    const bool is_secure = request_.url.starts_with("https:");
    set(CURLOPT_PROTOCOLS_STR, is_secure ? "https" : "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, is_secure ? "https" : "http,https");
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_POSTREDIR, static_cast<long>(CURL_REDIR_POST_ALL));
    set(CURLOPT_MAXREDIRS, kMostRedirects);
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    if (!options_.certificates.empty()) set(CURLOPT_CAINFO, options_.certificates.c_str());
    const auto patience = static_cast<long>(options_.patience.count());
    set(CURLOPT_CONNECTTIMEOUT, std::min(kConnectSeconds, patience));
    set(CURLOPT_LOW_SPEED_LIMIT, kLeastRate);
    set(CURLOPT_MAX_RECV_SPEED_LARGE, static_cast<curl_off_t>(request_.most_per_second));
    set(CURLOPT_LOW_SPEED_TIME, patience);
    set(CURLOPT_USERAGENT, "pyram-image/" PYRAM_VERSION);
    set(CURLOPT_WRITEFUNCTION, &Exchange::write);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_HEADERFUNCTION, &Exchange::header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &Exchange::progress);
    set(CURLOPT_XFERINFODATA, this);
    for (const std::string& header : request_.headers) add_header(header);
    set(CURLOPT_HTTPHEADER, list_.get());
  }

  void set_up_body() {
    if (request_.method == "HEAD") {
      set(CURLOPT_NOBODY, 1L);
    } else if (request_.file) {
      set(CURLOPT_UPLOAD, 1L);
      set(CURLOPT_CUSTOMREQUEST, request_.method.c_str());
      set(CURLOPT_READFUNCTION, &Exchange::read);
      set(CURLOPT_READDATA, this);
      set(CURLOPT_SEEKFUNCTION, &Exchange::seek);
      set(CURLOPT_SEEKDATA, this);
      set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request_.file->length));
    } else if (request_.method != "GET") {
      set(CURLOPT_POST, 1L);
      set(CURLOPT_CUSTOMREQUEST, request_.method.c_str());
      set(CURLOPT_POSTFIELDS, request_.body.data());
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size()));
    }
  }

  void add_header(const std::string& header) {
    curl_slist* longer = ::curl_slist_append(list_.get(), header.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)list_.release();
    list_.reset(longer);
  }

  [[noreturn]] void fail(CURLcode code) {
    std::string why = message_.front() != '\0' ? message_.data() : ::curl_easy_strerror(code);
    if (code == CURLE_OPERATION_TIMEDOUT) {
      why = "nothing came for " + std::to_string(options_.patience.count()) + " s";
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION) {
      why += "; name the authority's certificate with --ca-file if you trust it";
    }
    if (code == CURLE_SSL_CONNECT_ERROR) {
      why += "; where the server speaks no TLS, say --plain-http if you mean that";
    }
    throw TransferError("cannot reach " + shown(request_.url) + ": " + escape(why),
                        is_passing(code));
  }

  // The status and where the answer comes from; libcurl knows.
  void finish_headers() {
    ::curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &response_.status);
    const char* url = nullptr;
    if (::curl_easy_getinfo(easy_, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url != nullptr) {
      response_.url = url;
    }
  }

  // Runs what may throw in a callback; `failed` is what stops the transfer.
  template <typename Work>
  std::size_t guarded(std::size_t failed, const Work& work) noexcept {
    try {
      return work();
    } catch (...) {
      failure_ = std::current_exception();
      return failed;
    }
  }

  static std::size_t write(char* data, std::size_t one, std::size_t count, void* self) {
    auto& me = *static_cast<Exchange*>(self);
    const std::size_t size = one * count;
    return me.guarded(size + 1, [&] {
      if (me.response_.status == 0) me.finish_headers();
      const bool is_wanted = me.response_.status == 200 || me.response_.status == 206;
      if (me.request_.take && is_wanted) {
        me.request_.take(me.response_, std::as_bytes(std::span(data, size)));
      } else if (me.response_.body.size() + size <= me.request_.most) {
        me.response_.body.append(data, size);
      } else if (is_wanted) {
        throw TransferError("cannot use the answer of " + shown(me.request_.url) +
                                ": it is longer than " + std::to_string(me.request_.most) +
                                " bytes",
                            false);
      }
      return size;
    });
  }

  static std::size_t header(char* data, std::size_t one, std::size_t count, void* self) {
    auto& me = *static_cast<Exchange*>(self);
    const std::size_t size = one * count;
    return me.guarded(size + 1, [&] {
      const std::string_view line = trimmed({data, size});
      me.header_bytes_ += size;
      if (me.header_bytes_ > kMostHeaders) {
        throw TransferError(
            "cannot use the answer of " + shown(me.request_.url) + ": its headers have no end",
            false);
      }
      if (line.starts_with("HTTP/")) {  // Of the next answer, after a redirect or a "continue".
        me.response_.headers.clear();
        me.response_.status = 0;
        me.response_.body.clear();
      } else if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
        me.response_.headers.emplace_back(lower(line.substr(0, colon)),
                                          trimmed(line.substr(colon + 1)));
      }
      return size;
    });
  }

  static std::size_t read(char* buffer, std::size_t one, std::size_t count, void* self) {
    auto& me = *static_cast<Exchange*>(self);
    return me.guarded(CURL_READFUNC_ABORT, [&] {
      const FileRange& file = *me.request_.file;
      const auto left =
          static_cast<std::size_t>(std::min<std::uint64_t>(one * count, file.length - me.read_));
      const std::span bytes(reinterpret_cast<std::byte*>(buffer), left);
      if (pread_full(file.descriptor, bytes, file.position + me.read_) != left) {
        throw Error(ExitCode::kBadImage, "cannot send the image: it became shorter meanwhile");
      }
      me.read_ += left;
      return left;
    });
  }

  static int seek(void* self, curl_off_t offset, int origin) {
    auto& me = *static_cast<Exchange*>(self);
    if (origin != SEEK_SET || offset < 0) return CURL_SEEKFUNC_CANTSEEK;
    me.read_ = std::min(static_cast<std::uint64_t>(offset), me.request_.file->length);
    return CURL_SEEKFUNC_OK;
  }

  static int progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t sent) {
    auto& me = *static_cast<Exchange*>(self);
    return static_cast<int>(me.guarded(1, [&]() -> std::size_t {
      if (me.request_.sent && me.request_.file) me.request_.sent(static_cast<std::uint64_t>(sent));
      return 0;
    }));
  }

  CURL* easy_;
  std::array<char, CURL_ERROR_SIZE>& message_;
  const Request& request_;
  const HttpOptions& options_;
  std::unique_ptr<curl_slist, FreeList> list_;
  Response response_;
  std::size_t header_bytes_ = 0;
  std::uint64_t read_ = 0;
  std::exception_ptr failure_;
};

Http::Http(HttpOptions options) : options_(std::move(options)) {
  prepare_library();
  handle_ = std::make_unique<Handle>();
  handle_->easy.reset(::curl_easy_init());
  if (!handle_->easy) throw Error(ExitCode::kFailed, "cannot use libcurl: it does not start");
}

Http::~Http() = default;

Response Http::send(const Request& request) { return Exchange(*handle_, request, options_).run(); }

std::string shown(std::string_view url) { return quote(url.substr(0, url.find('?'))); }

std::string url_encoded(std::string_view text) {
  prepare_library();
  char* encoded = ::curl_easy_escape(nullptr, text.data(), static_cast<int>(text.size()));
  if (encoded == nullptr) throw std::bad_alloc();
  std::string result(encoded);
  ::curl_free(encoded);
  return result;
}

std::string resolve_url(const std::string& base, const std::string& given) {
  const Url url(::curl_url());
  const bool ok = url && ::curl_url_set(url.get(), CURLUPART_URL, base.c_str(), 0) == CURLUE_OK &&
                  ::curl_url_set(url.get(), CURLUPART_URL, given.c_str(), 0) == CURLUE_OK;
  std::string result = ok ? part_of(url.get(), CURLUPART_URL) : std::string();
  const bool is_secure = result.starts_with("https://");
  if (!is_secure && (base.starts_with("https:") || !result.starts_with("http://"))) {
    throw TransferError("cannot go on to " + shown(given) + ", which " + shown(base) +
                            " names: that is no address" +
                            (base.starts_with("https:") ? " of https" : ""),
                        false);
  }
  return result;
}

std::string host_of(const std::string& url) {
  const Url parsed(::curl_url());
  if (!parsed || ::curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) {
    return {};
  }
  const std::string port = part_of(parsed.get(), CURLUPART_PORT);
  return part_of(parsed.get(), CURLUPART_HOST) + (port.empty() ? "" : ":" + port);
}

}  // namespace pyram::registry
