// One repository of a registry: its manifests and blobs, by the OCI distribution specification 1.1.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "registry/artifact.h"
#include "registry/partial_file.h"
#include "registry/session.h"
#include "support/image_reference.h"

namespace pyram::registry {

// Not thread-safe. All functions throw Error (kBadSource), and kVerification where a registry sends
// something else than what was asked for.
class Registry {
 public:
  enum class Access { kPull, kPush };

  Registry(const ImageReference& reference, const SessionOptions& options, Access access);

  // The bytes of a manifest, by a digest (which they are checked against) or a tag. Nothing where
  // there is none.
  [[nodiscard]] std::optional<std::string> manifest(const std::string& tag_or_digest);

  // Where a blob is, for requests by one's own session.
  [[nodiscard]] std::string blob_url(const std::string& digest) const {
    return url("blobs", digest);
  }

  // Fetches a blob into `file`, and checks it against its digest: what doesn't hold is fetched
  // anew, once. Returns whether it was.
  bool fetch(const Descriptor& blob, PartialFile& file,
             const std::function<void(double)>& progress);

  // As fetch(), of what `file` doesn't have yet, up to `end` or more; nothing is checked.
  void fetch_part(const Descriptor& blob, std::uint64_t end, PartialFile& file,
                  const std::function<void(double)>& progress);

  // The layer of what refers to a manifest and is of that type, of at most so many bytes; nothing
  // where there is none.
  [[nodiscard]] std::optional<std::string> referrer(const std::string& subject,
                                                    std::string_view type, std::size_t most);

  // Sends a blob unless the registry has it. Returns whether it was sent.
  bool push(const Descriptor& blob, int descriptor, const std::function<void(double)>& progress);
  void push(const Descriptor& blob, std::string_view bytes);
  // Returns whether the registry keeps account of what refers to what.
  bool push_manifest(const std::string& tag_or_digest, const std::string& bytes,
                     const std::string& media_type);

  // Pushes an artifact that refers to another one. Where the registry keeps no account of such, the
  // index that stands in for it is kept under a tag made of the subject's digest.
  void push_referrer(const Artifact& artifact);

 private:
  [[nodiscard]] std::string url(std::string_view kind, std::string_view name) const;
  [[nodiscard]] bool has_blob(const std::string& digest);
  [[nodiscard]] std::vector<Descriptor> referrers(const std::string& digest, std::string_view type);
  [[nodiscard]] std::vector<Descriptor> tagged_referrers(const std::string& digest);
  [[nodiscard]] Error failure(const std::string& tried, const Response& response) const;

  std::string name_;  // HOST/REPOSITORY, for messages.
  std::string base_;  // The URL up to the repository.
  Session session_;
};

}  // namespace pyram::registry
