#include "registry/session.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "image-builder/digest.h"
#include "support/error.h"

namespace pyram::registry {
namespace {

using nlohmann::json;

bool equals_ignoring_case(std::string_view left, std::string_view right) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](char a, char b) { return lower(a) == lower(b); });
}

std::string_view first_word(std::string_view text) { return text.substr(0, text.find(' ')); }

// Overload and failures behind a proxy.
bool is_passing(long status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

std::chrono::seconds asked_to_wait(const Response& response) {
  const std::string text = response.header("retry-after");
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) return std::chrono::seconds(0);
  return std::chrono::seconds(seconds);
}

// What stands behind "Basic ".
std::string basic_of(const Credential& credential) {
  return credential.basic.empty() ? builder::base64(credential.user + ":" + credential.secret)
                                  : credential.basic;
}

}  // namespace

std::string challenge_parameter(std::string_view challenge, std::string_view name) {
  challenge.remove_prefix(std::min(first_word(challenge).size(), challenge.size()));
  while (!challenge.empty()) {
    while (!challenge.empty() && (challenge.front() == ' ' || challenge.front() == ',')) {
      challenge.remove_prefix(1);
    }
    const std::size_t equals = challenge.find('=');
    if (equals == std::string_view::npos) return {};
    const std::string_view key = challenge.substr(0, equals);
    challenge.remove_prefix(equals + 1);
    const bool is_quoted = challenge.starts_with('"');
    if (is_quoted) challenge.remove_prefix(1);
    const std::size_t end = std::min(challenge.find(is_quoted ? '"' : ','), challenge.size());
    if (equals_ignoring_case(key, name)) return std::string(challenge.substr(0, end));
    challenge.remove_prefix(std::min(end + 1, challenge.size()));
  }
  return {};
}

std::string reason_in(const Response& response) {
  std::string text = "HTTP " + std::to_string(response.status);
  const json body = json::parse(response.body, nullptr, false);
  if (body.is_object() && body.contains("errors") && body["errors"].is_array() &&
      !body["errors"].empty() && body["errors"][0].is_object()) {
    const json& error = body["errors"][0];
    for (const char* part : {"code", "message"}) {
      if (error.contains(part) && error[part].is_string()) {
        text += (part[0] == 'c' ? ", " : ": ") + error[part].get<std::string>().substr(0, 200);
      }
    }
  }
  return escape(text);
}

Session::Session(SessionOptions options, std::string host, std::string repository,
                 std::string scope)
    : options_(std::move(options)),
      host_(std::move(host)),
      repository_(std::move(repository)),
      scope_(std::move(scope)),
      http_(options_.http) {}

Response Session::send(const Request& request) {
  Patience patience(options_.retries);
  return send([&] { return request; }, patience);
}

Response Session::send(const std::function<Request()>& make, Patience& patience) {
  // A token may have run out just before, or while a transfer was being tried again: then a new
  // one helps. Asking twice for one request is asking in vain.
  bool has_answered = false;
  for (;;) {
    const Request request = make();
    try {
      Response response = send_once(request);
      // Only the server that was asked may ask who we are.
      const bool is_elsewhere = host_of(response.url) != host_of(request.url);
      if (response.status == 401 && !has_answered && !is_elsewhere) {
        has_answered = true;
        if (answer_challenge(response)) continue;
      }
      // A storage service that the registry leads to may refuse an address that has run out: the
      // registry gives a new one.
      const bool is_stale = is_elsewhere && (response.status == 403 || response.status == 401);
      if (!is_passing(response.status) && !is_stale) return response;
      if (!patience.wait(asked_to_wait(response))) {
        throw TransferError(
            "cannot get an answer of " + shown(request.url) + ": " + reason_in(response), true);
      }
      has_answered = false;
    } catch (const TransferError& error) {
      if (!error.passing() || !patience.wait()) throw;
      has_answered = false;
    }
  }
}

Response Session::send_once(Request request) {
  if (!authorization_.empty()) request.headers.push_back("Authorization: " + authorization_);
  return http_.send(request);
}

bool Session::answer_challenge(const Response& response) {
  if (!has_looked_) {
    has_looked_ = true;
    credential_ = find_credential(host_, repository_);
  }
  // Bearer is asked for first: a registry that offers both has its reasons.
  for (const std::string_view wanted : {"bearer", "basic"}) {
    for (const auto& [name, value] : response.headers) {
      if (name != "www-authenticate" || !equals_ignoring_case(first_word(value), wanted)) continue;
      if (wanted == "bearer") {
        fetch_token(value, response.url);
        return true;
      }
      const bool has_secret = credential_ && credential_->identity.empty();
      const std::string next = has_secret ? "Basic " + basic_of(*credential_) : std::string();
      if (next.empty() || next == authorization_) return false;
      authorization_ = next;
      return true;
    }
  }
  return false;
}

void Session::fetch_token(const std::string& challenge, const std::string& base) {
  const std::string realm = resolve_url(base, challenge_parameter(challenge, "realm"));
  const std::string service = challenge_parameter(challenge, "service");
  // What the registry says that it needs; what we know where it doesn't.
  std::string scope = challenge_parameter(challenge, "scope");
  if (scope.empty() || scope_.find("push") != std::string::npos) scope = scope_;
  Request request;
  if (credential_ && !credential_->identity.empty()) {
    request.method = "POST";
    request.url = realm;
    request.headers = {"Content-Type: application/x-www-form-urlencoded"};
    request.body =
        "grant_type=refresh_token&client_id=pyram-image&service=" + url_encoded(service) +
        "&scope=" + url_encoded(scope) + "&refresh_token=" + url_encoded(credential_->identity);
  } else {
    request.url = realm + (realm.find('?') == std::string::npos ? "?" : "&") +
                  "service=" + url_encoded(service) +
                  (scope.empty() ? "" : "&scope=" + url_encoded(scope));
    if (credential_) request.headers = {"Authorization: Basic " + basic_of(*credential_)};
  }
  const Response response = http_.send(request);
  if (is_passing(response.status)) {
    throw TransferError("cannot get a token of " + shown(realm) + ": " + reason_in(response), true);
  }
  if (response.status != 200) {
    throw Error(ExitCode::kBadSource,
                "cannot get a token of " + shown(realm) + ": " + reason_in(response) +
                    (credential_ ? "; check the credentials of " : "; log in to ") + quote(host_) +
                    ", for example by skopeo login");
  }
  const json said = json::parse(response.body, nullptr, false);
  if (said.is_discarded()) {  // Half an answer, mostly.
    throw TransferError("cannot get a token of " + shown(realm) + ": what it sent is no JSON",
                        true);
  }
  for (const char* name : {"token", "access_token"}) {
    if (!said.is_object() || !said.contains(name) || !said[name].is_string()) continue;
    const auto token = said[name].get<std::string>();
    // In a header, a line break would begin another one.
    if (token.empty() || std::any_of(token.begin(), token.end(), [](char c) { return c < '!'; })) {
      continue;
    }
    authorization_ = "Bearer " + token;
    return;
  }
  throw Error(ExitCode::kBadSource, "cannot get a token of " + shown(realm) + ": it sent none");
}

}  // namespace pyram::registry
