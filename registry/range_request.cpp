#include "registry/range_request.h"

#include "registry/download.h"
#include "support/error.h"

namespace pyram::registry {
namespace {

std::string header_of(ByteRange range) {
  return "Range: bytes=" + std::to_string(range.position) + "-" +
         std::to_string(range.position + range.length - 1);
}

TransferError failure(const std::string& url, const std::string& why) {
  return {"cannot fetch " + shown(url) + ": " + why, true};
}

NoRanges no_ranges(const std::string& url) {
  return {ExitCode::kBadSource, "cannot fetch a part of " + shown(url) +
                                    ": the server sends everything, or does not say which part"};
}

Error refused(const std::string& url, const Response& response) {
  return {ExitCode::kBadSource, "cannot fetch " + shown(url) + ": " + reason_in(response)};
}

// Where what comes belongs: checked by the headers, before the first byte.
std::uint64_t begin_of(const Response& response, const RangeWanted& wanted, ByteRange range) {
  if (response.status == 200) {
    if (!wanted.accepts_whole) throw no_ranges(wanted.url);
    return 0;
  }
  const auto sent = parse_content_range(response.header("content-range"));
  if (!sent || sent->first != range.position || sent->last != range.position + range.length - 1) {
    throw failure(wanted.url, "it sends another range than was asked for");
  }
  if (sent->total && *sent->total != wanted.size) {
    throw failure(wanted.url, "it has " + std::to_string(*sent->total) + " bytes in place of " +
                                  std::to_string(wanted.size));
  }
  return sent->first;
}

}  // namespace

void fetch_range(Session& session, const RangeWanted& wanted, Patience& patience,
                 const std::function<ByteRange()>& next) {
  ByteRange range;
  while ((range = next()).length > 0) {
    std::uint64_t position = 0;
    std::uint64_t end = 0;
    const auto make = [&] {
      range = next();
      Request request;
      request.url = wanted.url;
      request.most_per_second = wanted.rate;
      request.headers.push_back(header_of(range));
      request.take = [&](const Response& so_far, std::span<const std::byte> bytes) {
        if (end == 0) {
          position = begin_of(so_far, wanted, range);
          end = so_far.status == 200 ? wanted.size : range.position + range.length;
        }
        if (bytes.size() > end - position) {
          throw failure(wanted.url, "it sends more than it has to");
        }
        wanted.take(position, bytes);
        position += bytes.size();
        patience.progressed(bytes.size());
      };
      end = 0;
      return request;
    };
    const Response response = session.send(make, patience);
    if (response.status != 200 && response.status != 206) throw refused(wanted.url, response);
    if (end == 0 || position != end) {
      if (!patience.wait()) throw failure(wanted.url, "it sends less than it has to");
    }
  }
}

std::uint64_t size_at(Session& session, const std::string& url) {
  Request request;
  request.url = url;
  request.headers.push_back(header_of({0, 1}));
  request.take = [&](const Response& so_far, std::span<const std::byte>) {
    // Not all of it for its length.
    if (so_far.status == 200) throw no_ranges(url);
  };
  const Response response = session.send(request);
  if (response.status != 206) throw refused(url, response);
  const auto sent = parse_content_range(response.header("content-range"));
  if (!sent || !sent->total) throw no_ranges(url);
  return *sent->total;
}

}  // namespace pyram::registry
