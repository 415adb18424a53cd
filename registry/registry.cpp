#include "registry/registry.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "image-builder/digest.h"
#include "registry/download.h"
#include "registry/upload.h"
#include "support/error.h"
#include "support/io.h"

namespace pyram::registry {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestManifest = std::size_t{4} << 20;  // As registries have it.

constexpr int kMostReferrers = 16;  // Whose manifests are looked at for one that is wanted.

std::string scope_of(const ImageReference& reference, Registry::Access access) {
  return "repository:" + std::string(reference.repository) +
         (access == Registry::Access::kPush ? ":pull,push" : ":pull");
}

// Docker Hub's registry has another name than its images.
std::string api_host(std::string_view host) {
  return host == "docker.io" ? "registry-1.docker.io" : std::string(host);
}

std::string digest_of_file(const PartialFile& file) {
  return "sha256:" + builder::sha256_of_file(file.path());
}

}  // namespace

Registry::Registry(const ImageReference& reference, const SessionOptions& options, Access access)
    : name_(std::string(reference.host) + '/' + std::string(reference.repository)),
      base_((options.plain_http ? "http://" : "https://") + api_host(reference.host) + "/v2/" +
            std::string(reference.repository) + '/'),
      session_(options, std::string(reference.host), std::string(reference.repository),
               scope_of(reference, access)) {}

std::string Registry::url(std::string_view kind, std::string_view name) const {
  return base_ + std::string(kind) + '/' + std::string(name);
}

Error Registry::failure(const std::string& tried, const Response& response) const {
  std::string text = "cannot " + tried + ' ' + quote(name_) + ": " + reason_in(response);
  if (response.status == 401 || response.status == 403) {
    text += "; log in, for example by skopeo login, as somebody who may";
  }
  return {ExitCode::kBadSource, text};
}

std::optional<std::string> Registry::manifest(const std::string& tag_or_digest) {
  Request request;
  request.url = url("manifests", tag_or_digest);
  request.most = kLongestManifest;
  request.headers = {std::string("Accept: ") + kManifestType + ", " + kIndexType +
                     ", application/vnd.docker.distribution.manifest.v2+json"
                     ", application/vnd.docker.distribution.manifest.list.v2+json"};
  Patience patience(session_.options().retries);
  for (;;) {
    Response response = session_.send([&] { return request; }, patience);
    if (response.status == 404) return std::nullopt;
    if (response.status != 200) throw failure("get a manifest of", response);
    const std::string digest = "sha256:" + builder::sha256_of_text(response.body);
    // For a tag, what the registry calls it at least tells damage on the way.
    const std::string named = response.header("docker-content-digest");
    const std::string wanted = is_digest(tag_or_digest) ? tag_or_digest
                               : is_digest(named)       ? named
                                                        : digest;
    if (digest == wanted) return std::move(response.body);
    if (!patience.wait()) {
      throw Error(ExitCode::kVerification, "cannot use what " + quote(name_) +
                                               " sends: it is not " + wanted +
                                               ", which was asked for");
    }
  }
}

bool Registry::fetch(const Descriptor& blob, PartialFile& file,
                     const std::function<void(double)>& progress) {
  for (bool is_second = false;; is_second = true) {
    download(session_, {url("blobs", blob.digest), blob.size, progress}, file);
    if (digest_of_file(file) == blob.digest) return is_second;
    // The beginning may have been spoiled by a crash, or the line be bad.
    if (is_second) break;
    file.clear();
  }
  file.remove();
  throw Error(ExitCode::kVerification, "cannot use what " + quote(name_) + " sends: it is not " +
                                           blob.digest + ", which was asked for");
}

void Registry::fetch_part(const Descriptor& blob, std::uint64_t end, PartialFile& file,
                          const std::function<void(double)>& progress) {
  download(session_, {url("blobs", blob.digest), blob.size, progress, end}, file);
}

std::optional<std::string> Registry::referrer(const std::string& subject, std::string_view type,
                                              std::size_t most) {
  int looked_at = 0;
  for (const Descriptor& entry : referrers(subject, type)) {
    // Some registries say the type of the configuration in its place: then the manifest tells.
    const bool is_unsaid = entry.artifact_type.empty() || entry.artifact_type == kEmptyType;
    if (entry.artifact_type != type && !is_unsaid) continue;
    if (++looked_at > kMostReferrers) break;
    const auto text = manifest(entry.digest);
    if (!text) continue;
    const Artifact artifact = parse_artifact(*text, name_);
    if (artifact.type != type || artifact.layers.size() != 1) continue;
    if (artifact.layers[0].size > most) {
      throw Error(ExitCode::kBadSource, "cannot use what refers to an image of " + quote(name_) +
                                            ": it is longer than it may be");
    }
    Request request;
    request.url = url("blobs", artifact.layers[0].digest);
    request.most = artifact.layers[0].size;
    Response response = session_.send(request);
    if (response.status != 200) throw failure("get a blob of", response);
    if ("sha256:" + builder::sha256_of_text(response.body) == artifact.layers[0].digest) {
      return std::move(response.body);
    }
  }
  return std::nullopt;
}

std::vector<Descriptor> Registry::referrers(const std::string& digest, std::string_view type) {
  Request request;
  request.url = url("referrers", digest) + "?artifactType=" + url_encoded(type);
  request.most = kLongestManifest;
  request.headers = {std::string("Accept: ") + kIndexType};
  const Response response = session_.send(request);
  // Without an account of such there is a tag that stands in for it.
  if (response.status != 200) return tagged_referrers(digest);
  return parse_index(response.body, name_);
}

bool Registry::has_blob(const std::string& digest) {
  Request request;
  request.method = "HEAD";
  request.url = url("blobs", digest);
  const Response response = session_.send(request);
  if (response.status == 200) return true;
  if (response.status == 404) return false;
  throw failure("look for a blob in", response);
}

bool Registry::push(const Descriptor& blob, int descriptor,
                    const std::function<void(double)>& progress) {
  if (has_blob(blob.digest)) return false;
  upload(session_,
         {.start = url("blobs", "uploads/"),
          .digest = blob.digest,
          .file = {descriptor, 0, blob.size},
          .is_there = [&] { return has_blob(blob.digest); },
          .failure = [&](const Response& response) { return failure("push to", response); },
          .progress = progress});
  return true;
}

void Registry::push(const Descriptor& blob, std::string_view bytes) {
  const UniqueFd memory(::memfd_create("pyram-blob", MFD_CLOEXEC));
  if (!memory) throw system_error(ExitCode::kFailed, errno, "keep a blob in memory");
  write_full(memory.get(), bytes, "a blob in memory");
  push(blob, memory.get(), {});
}

bool Registry::push_manifest(const std::string& tag_or_digest, const std::string& bytes,
                             const std::string& media_type) {
  Request request;
  request.method = "PUT";
  request.url = url("manifests", tag_or_digest);
  request.headers = {"Content-Type: " + media_type};
  request.body = bytes;
  const Response response = session_.send(request);
  if (response.status != 201 && response.status != 200 && response.status != 202) {
    throw failure("push a manifest to", response);
  }
  return !response.header("oci-subject").empty();
}

void Registry::push_referrer(const Artifact& artifact) {
  const std::string text = format_artifact(artifact);
  Descriptor entry = describe(text, kManifestType);
  if (push_manifest(entry.digest, text, kManifestType)) return;
  entry.artifact_type = artifact.type;
  entry.annotations = artifact.annotations;
  const std::string& subject = artifact.subject->digest;
  std::vector<Descriptor> entries = tagged_referrers(subject);
  const auto is_same = [&](const Descriptor& other) { return other.digest == entry.digest; };
  if (std::ranges::any_of(entries, is_same)) return;
  entries.push_back(entry);
  push_manifest("sha256-" + subject.substr(7), format_index(entries, {}), kIndexType);
}

std::vector<Descriptor> Registry::tagged_referrers(const std::string& digest) {
  const auto text = manifest("sha256-" + digest.substr(7));
  return text ? parse_index(*text, name_) : std::vector<Descriptor>();
}

}  // namespace pyram::registry
