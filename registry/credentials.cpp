#include "registry/credentials.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "support/child.h"
#include "support/error.h"
#include "support/io.h"
#include "support/pipe.h"
#include "support/process.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

// What Docker's own registry is called in these files.
constexpr std::string_view kDockerHub = "docker.io";
constexpr std::string_view kDockerHubKey = "https://index.docker.io/v1/";
// A helper that waits for a person must not hold a pull up for ever.
constexpr std::chrono::seconds kHelperPatience{60};

std::optional<fs::path> directory_in(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return fs::path(value);
}

// The files that may have it, first one first. One that was named has to be there.
std::vector<fs::path> files() {
  if (const auto named = directory_in("REGISTRY_AUTH_FILE")) {
    if (!fs::exists(*named)) {
      throw Error(ExitCode::kUsage, "cannot read the credentials in " + quote(named->native()) +
                                        ", which REGISTRY_AUTH_FILE names: there is no such file");
    }
    return {*named};
  }
  std::vector<fs::path> result;
  if (const auto run = directory_in("XDG_RUNTIME_DIR")) {
    result.push_back(*run / "containers/auth.json");
  }
  if (const auto docker = directory_in("DOCKER_CONFIG")) {
    result.push_back(*docker / "config.json");
  } else if (const auto home = directory_in("HOME")) {
    result.push_back(*home / ".docker/config.json");
  }
  return result;
}

// "https://HOST/v1/" and the like name HOST.
std::string_view host_in(std::string_view key) {
  for (const std::string_view start : {"https://", "http://"}) {
    if (key.starts_with(start)) {
      key.remove_prefix(start.size());
      return key.substr(0, key.find('/'));
    }
  }
  return key;
}

std::string text_in(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// The entry of an object by the longest key that is the repository or a part of a registry that it
// lies in.
const json* entry_for(const json& entries, const std::string& host, const std::string& repository) {
  if (!entries.is_object()) return nullptr;
  const std::string whole = host + '/' + repository;
  const json* best = nullptr;
  std::size_t length = 0;
  for (const auto& [key, value] : entries.items()) {
    const std::string_view name =
        host == kDockerHub && key == kDockerHubKey ? kDockerHub : host_in(key);
    const bool is_above =
        whole.starts_with(name) && (name.size() == whole.size() || whole[name.size()] == '/');
    if (!is_above || name.size() < length || name.empty()) continue;
    best = &value;
    length = name.size();
  }
  return best;
}

// What docker-credential-NAME says of the registry; nothing where it knows none.
std::optional<Credential> ask_helper(const std::string& helper, const std::string& server) {
  const std::string name = "docker-credential-" + helper;
  const auto program = find_program(name);
  if (!program || helper.find('/') != std::string::npos) {
    throw Error(ExitCode::kMissingTool, "cannot ask for the credentials of " + quote(server) +
                                            ": there is no " + quote(name) + " in PATH");
  }
  Pipe question = make_pipe();
  Pipe answer = make_pipe();
  Child child = Child::start(
      {.arguments = {name, "get"},
       .path = program->native(),
       .descriptors = {{question.reader.get(), STDIN_FILENO}, {answer.writer.get(), STDOUT_FILENO}},
       .closes_others = true});
  question.reader.reset();
  answer.writer.reset();
  write_full(question.writer.get(), server + "\n", quote(name));
  question.writer.reset();
  // Answers are shorter than a pipe holds, so the program needs nobody to read meanwhile.
  if (!child.wait_for(kHelperPatience)) {
    throw Error(ExitCode::kBadSource, "cannot ask for the credentials of " + quote(server) + ": " +
                                          quote(name) + " gave no answer in a minute");
  }
  const std::string text = read_to_end(answer.reader.get(), quote(name));
  if (child.wait() != 0) {
    if (text.find("not found") != std::string::npos) return std::nullopt;
    throw Error(ExitCode::kBadSource, "cannot ask for the credentials of " + quote(server) + ": " +
                                          quote(name) +
                                          " says: " + escape(text.substr(0, text.find('\n'))));
  }
  const json said = json::parse(text);
  Credential result;
  result.user = text_in(said, "Username");
  result.secret = text_in(said, "Secret");
  if (result.user == "<token>") result = {.identity = result.secret};
  return result;
}

std::optional<Credential> find_in(const json& config, const std::string& host,
                                  const std::string& repository) {
  const std::string server = host == kDockerHub ? std::string(kDockerHubKey) : host;
  if (const auto helpers = config.find("credHelpers"); helpers != config.end()) {
    const json* helper = entry_for(*helpers, host, repository);
    if (helper != nullptr && helper->is_string()) {
      return ask_helper(helper->get<std::string>(), server);
    }
  }
  const auto auths = config.find("auths");
  const json* entry = auths == config.end() ? nullptr : entry_for(*auths, host, repository);
  if (entry != nullptr && entry->is_object()) {
    Credential result{.user = text_in(*entry, "username"),
                      .secret = text_in(*entry, "password"),
                      .basic = text_in(*entry, "auth"),
                      .identity = text_in(*entry, "identitytoken")};
    if (!result.user.empty() || !result.basic.empty() || !result.identity.empty()) return result;
  }
  const std::string store = text_in(config, "credsStore");
  return store.empty() ? std::nullopt : ask_helper(store, server);
}

}  // namespace

bool asks_programs() {
  for (const fs::path& file : files()) {
    std::error_code missing;
    if (!fs::exists(file, missing)) continue;
    const json config = json::parse(read_file(file), nullptr, false);
    if (config.is_object() && (config.contains("credHelpers") || config.contains("credsStore"))) {
      return true;
    }
  }
  return false;
}

std::optional<Credential> find_credential(const std::string& host, const std::string& repository) {
  for (const fs::path& file : files()) {
    std::error_code missing;
    if (!fs::exists(file, missing)) continue;
    try {
      if (auto found = find_in(json::parse(read_file(file)), host, repository)) return found;
    } catch (const json::exception& error) {
      throw Error(ExitCode::kUsage, "cannot read the credentials in " + quote(file.native()) +
                                        ": it is no JSON of the form that is expected");
    }
  }
  return std::nullopt;
}

}  // namespace pyram::registry
