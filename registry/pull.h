// `pyram-image pull`: an image out of a registry, or from any HTTP server, to where it is used.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "registry/session.h"

namespace pyram::registry {

struct PullOptions {
  std::string source;            // A reference, or a URL.
  std::string digest;            // Of what lies at a URL: the image's own, or the file's.
  std::filesystem::path output;  // Where it goes; empty: the store.
  // Images that the new one may have parts of, besides those in the store and the one that it
  // replaces.
  std::vector<std::filesystem::path> from{};
  std::vector<std::filesystem::path> keys;  // One of which has to have signed it.
  std::string architecture;                 // This machine's where empty.
  SessionOptions session;
  bool lazy = false;                            // The image can be used before all of it is here.
  std::uint64_t rate = std::uint64_t{8} << 20;  // Then of what nobody waits for, bytes a second.
  bool quiet = false;
};

// What comes is checked by the manifest's digest, the image's Merkle tree and the keys (those in
// /etc/pyram/trust.d where none are named) before it has a name. Returns what to tell the person.
// Throws Error: kBadSource, kCannotWrite, kVerification, kUsage.
[[nodiscard]] std::string pull_image(const PullOptions& options);

}  // namespace pyram::registry
