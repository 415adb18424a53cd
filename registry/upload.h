// Sending a blob, going on from what arrived.
#pragma once

#include <functional>
#include <string>

#include "registry/session.h"

namespace pyram::registry {

struct Sending {
  std::string start;   // The URL that begins an upload.
  std::string digest;  // Of the file's bytes.
  FileRange file;
  std::function<bool()> is_there;                          // Whether the registry has the blob.
  std::function<Error(const Response& response)> failure;  // What to say of an answer.
  std::function<void(double done)> progress{};
};

// POST, PATCH, PUT, as the distribution specification has it, and as `docker push` does: the whole
// rest in one PATCH. After a failure the registry is asked how much it has. Throws Error.
void upload(Session& session, const Sending& sending);

}  // namespace pyram::registry
