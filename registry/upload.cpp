#include "registry/upload.h"

#include <charconv>

#include "support/error.h"

namespace pyram::registry {
namespace {

class Upload {
 public:
  Upload(Session& session, const Sending& sending) : session_(session), sending_(sending) {}

  void run() {
    Patience patience(session_.options().retries);
    for (;;) {
      try {
        if (location_.empty()) begin();
        send_rest();
        finish();
        return;
      } catch (const TransferError& error) {
        if (!error.passing() || !patience.wait()) throw;
      }
      const std::uint64_t before = done_;
      recover();
      if (done_ > before) patience.progressed(done_ - before);
      // The last answer may have been lost on its way.
      if (location_.empty() && sending_.is_there()) return;
    }
  }

 private:
  // Of a request that isn't repeated as it was: the next one depends on what arrived.
  [[nodiscard]] Response send_once(const Request& request) {
    Patience none(0);
    return session_.send([&] { return request; }, none);
  }

  // An answer that doesn't fit the state that we are in, for which a new upload may be the way out.
  [[nodiscard]] static bool is_out_of_step(const Response& response) {
    return response.status == 404 || response.status == 416;
  }

  void check(const Response& response, long wanted) const {
    if (response.status == wanted) return;
    if (is_out_of_step(response)) {
      throw TransferError(sending_.failure(response).what(), true);
    }
    throw sending_.failure(response);
  }

  void take_location(const Response& response, const std::string& base) {
    const std::string given = response.header("location");
    if (given.empty()) {
      throw TransferError("cannot push to " + shown(base) + ": it does not say where", true);
    }
    location_ = resolve_url(base, given);
  }

  void begin() {
    done_ = 0;
    Request request;
    request.method = "POST";
    request.url = sending_.start;
    request.headers = {"Content-Type: application/octet-stream"};
    const Response response = send_once(request);
    if (response.status == 201) return;  // It has found out that it has the blob.
    if (response.status != 202) throw sending_.failure(response);
    take_location(response, request.url);
  }

  void send_rest() {
    const std::uint64_t size = sending_.file.length;
    if (location_.empty() || done_ == size) return;
    Request request;
    request.method = "PATCH";
    request.url = location_;
    request.headers = {"Content-Type: application/octet-stream"};
    // Said where it matters only: some registries take it for the sign of another protocol.
    if (done_ > 0) {
      request.headers.push_back("Content-Range: " + std::to_string(done_) + "-" +
                                std::to_string(size - 1));
    }
    request.file =
        FileRange{sending_.file.descriptor, sending_.file.position + done_, size - done_};
    request.sent = [this, size](std::uint64_t sent) {
      if (sending_.progress) {
        sending_.progress(static_cast<double>(done_ + sent) / static_cast<double>(size));
      }
    };
    const Response response = send_once(request);
    check(response, 202);
    take_location(response, request.url);
    done_ = size;
  }

  void finish() {
    if (location_.empty()) return;
    Request request;
    request.method = "PUT";
    request.url = location_ + (location_.find('?') == std::string::npos ? "?" : "&") +
                  "digest=" + url_encoded(sending_.digest);
    request.headers = {"Content-Type: application/octet-stream"};
    check(send_once(request), 201);
  }

  // Asks how much arrived. Without an answer that makes sense, all begins anew.
  void recover() {
    if (location_.empty()) return;
    Request request;
    request.url = location_;
    try {
      const Response response = send_once(request);
      const auto arrived = arrived_in(response.header("range"));
      if ((response.status == 204 || response.status == 202) && arrived) {
        done_ = *arrived;
        if (!response.header("location").empty()) take_location(response, request.url);
        return;
      }
    } catch (const TransferError&) {
    }
    location_.clear();
  }

  // "0-N": so many bytes and one. Registries say "0-0" for none as well as for one: none, then.
  [[nodiscard]] std::optional<std::uint64_t> arrived_in(std::string_view range) const {
    if (range.starts_with("bytes=")) range.remove_prefix(6);
    std::uint64_t last = 0;
    if (!range.starts_with("0-")) return std::nullopt;
    const auto [end, error] = std::from_chars(range.data() + 2, range.data() + range.size(), last);
    if (error != std::errc() || end != range.data() + range.size()) return std::nullopt;
    if (last >= sending_.file.length) return std::nullopt;
    return last == 0 ? 0 : last + 1;
  }

  Session& session_;
  const Sending& sending_;
  std::string location_;
  std::uint64_t done_ = 0;
};

}  // namespace

void upload(Session& session, const Sending& sending) { Upload(session, sending).run(); }

}  // namespace pyram::registry
