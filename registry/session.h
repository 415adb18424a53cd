// Requests to one server, as who one is there, tried again where that may help.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "registry/credentials.h"
#include "registry/http.h"
#include "registry/patience.h"

namespace pyram::registry {

struct SessionOptions {
  HttpOptions http{};
  unsigned retries = 5;     // Of each request, or of a transfer that gets nowhere.
  bool plain_http = false;  // Of registries; URLs say it themselves.
};

// Not thread-safe.
class Session {
 public:
  // `host` (with its port) and `repository`: for whose credentials to look. `scope`: what a token
  // is to allow ("repository:NAME:pull"); may be empty.
  Session(SessionOptions options, std::string host, std::string repository, std::string scope);

  // The answer to what `make` makes, which is called for each try, and may count on what the last
  // one has done. `failed` hears of each try that failed and is repeated. Returns answers of any
  // status but those that were tried again in vain: throws TransferError for these, and Error for
  // credentials that don't do.
  [[nodiscard]] Response send(const std::function<Request()>& make, Patience& patience);
  [[nodiscard]] Response send(const Request& request);

  [[nodiscard]] const SessionOptions& options() const { return options_; }

 private:
  [[nodiscard]] Response send_once(Request request);
  // Gets what an answer with status 401 asks for. Returns whether trying again may help.
  bool answer_challenge(const Response& response);
  void fetch_token(const std::string& challenge, const std::string& base);

  SessionOptions options_;
  std::string host_;
  std::string repository_;
  std::string scope_;
  Http http_;
  bool has_looked_ = false;
  std::optional<Credential> credential_;
  std::string authorization_;  // What stands behind "Authorization: ".
};

// What went wrong, as the answer says: "HTTP 404 Not Found" or the registry's own words.
[[nodiscard]] std::string reason_in(const Response& response);

// One parameter of a challenge such as `Bearer realm="...",service="..."`; empty without it.
[[nodiscard]] std::string challenge_parameter(std::string_view challenge, std::string_view name);

}  // namespace pyram::registry
