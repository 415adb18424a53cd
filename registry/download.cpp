#include "registry/download.h"

#include <charconv>
#include <string_view>

#include "support/error.h"

namespace pyram::registry {
namespace {

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

class Download {
 public:
  Download(Session& session, const Wanted& wanted, PartialFile& file)
      : session_(session), wanted_(wanted), file_(file), size_(wanted.size) {}

  void run() {
    if (size_ && file_.size() > *size_) file_.clear();
    if (size_) file_.reserve(*size_);
    Patience patience(session_.options().retries);
    patience_ = &patience;
    while (!size_ || file_.size() < end()) {
      const Response response = session_.send([this] { return make(); }, patience);
      const bool is_ok = response.status == 200 || response.status == 206;
      if (is_ok && size_ && file_.size() == end()) break;
      if (response.status == 416) {  // What is there is no beginning of what the server has.
        start_over();
      } else if (!is_ok) {
        throw Error(ExitCode::kBadSource,
                    "cannot fetch " + shown(wanted_.url) + ": " + reason_in(response));
      }
      if (!patience.wait()) throw failure("it sends less than it has to");
    }
  }

 private:
  [[nodiscard]] TransferError failure(const std::string& why) const {
    return {"cannot fetch " + shown(wanted_.url) + ": " + why, true};
  }

  // How far it is fetched. REQUIRES: the size is known.
  [[nodiscard]] std::uint64_t end() const {
    return has_ranges_ ? wanted_.end.value_or(*size_) : *size_;
  }
  // The last byte to ask for; empty for all that there is.
  [[nodiscard]] std::string last() const {
    const bool is_part = has_ranges_ && wanted_.end && *wanted_.end < *size_;
    return is_part ? std::to_string(*wanted_.end - 1) : std::string();
  }

  void start_over() {
    has_ranges_ = false;
    file_.clear();
  }

  Request make() {
    is_first_ = true;
    Request request;
    request.url = wanted_.url;
    if (!has_ranges_ && file_.size() > 0) file_.clear();
    if (file_.size() > 0 || !last().empty()) {
      request.headers.push_back("Range: bytes=" + std::to_string(file_.size()) + "-" + last());
    }
    request.take = [this](const Response& so_far, std::span<const std::byte> bytes) {
      if (is_first_) begin(so_far);
      is_first_ = false;
      if (bytes.size() > end() - file_.size()) throw failure("it sends more than it has to");
      file_.append(bytes);
      patience_->progressed(bytes.size());
      if (wanted_.progress) {
        wanted_.progress(static_cast<double>(file_.size()) / static_cast<double>(*size_));
      }
    };
    return request;
  }

  // Looks at the headers, before the first bytes are taken.
  void begin(const Response& response) {
    std::optional<std::uint64_t> total;
    if (response.status == 206) {
      const auto range = parse_content_range(response.header("content-range"));
      if (!range || range->first != file_.size() || (wanted_.end && range->last >= end())) {
        start_over();
        throw failure("it sends another range than was asked for");
      }
      total = range->total;
    } else {
      // All of it, from the beginning, whatever was asked for.
      if (wanted_.end) has_ranges_ = false;
      if (file_.size() > 0) file_.clear();
      total = number(response.header("content-length"));
    }
    if (!size_) {
      if (!total || *total == 0) throw failure("it does not say how long it is");
      size_ = total;
      file_.reserve(*size_);
    } else if (total && *total != *size_) {
      start_over();
      const std::string why =
          "it has " + std::to_string(*total) + " bytes in place of " + std::to_string(*size_);
      // Of parts, the table that names them is another image's: nothing gets better by asking
      // again.
      if (wanted_.end)
        throw TransferError("cannot fetch " + shown(wanted_.url) + ": " + why, false);
      throw failure(why);
    }
  }

  Session& session_;
  const Wanted& wanted_;
  PartialFile& file_;
  Patience* patience_ = nullptr;
  std::optional<std::uint64_t> size_;
  bool has_ranges_ = true;
  bool is_first_ = true;
};

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) return std::nullopt;
  text.remove_prefix(kUnit.size());
  const std::size_t dash = text.find('-');
  const std::size_t slash = text.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash) {
    return std::nullopt;
  }
  const auto first = number(text.substr(0, dash));
  const auto last = number(text.substr(dash + 1, slash - dash - 1));
  const std::string_view total_text = text.substr(slash + 1);
  const auto total = number(total_text);
  if (!first || !last || *last < *first || (!total && total_text != "*") ||
      (total && *last >= *total)) {
    return std::nullopt;
  }
  return ContentRange{*first, *last, total};
}

void download(Session& session, const Wanted& wanted, PartialFile& file) {
  Download(session, wanted, file).run();
}

}  // namespace pyram::registry
