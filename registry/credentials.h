// Who one is to a registry: what `docker login`, `podman login` and `skopeo login` have written.
#pragma once

#include <optional>
#include <string>

namespace pyram::registry {

struct Credential {
  std::string user{};
  std::string secret{};
  std::string basic{};     // What stands behind "Basic "; instead of user and secret.
  std::string identity{};  // A refresh token; instead of all these.
};

// Looks for a registry (its host, with the port) in the file that REGISTRY_AUTH_FILE names, or else
// in containers/auth.json below XDG_RUNTIME_DIR and in config.json in DOCKER_CONFIG or ~/.docker.
// Programs that keep credentials (credHelpers, credsStore) are asked. Of entries for a part of a
// registry (HOST/TEAM), the longest that `repository` lies in counts. Nothing where there is none:
// then one asks as nobody. Throws Error (kUsage) for a file that cannot be used.
[[nodiscard]] std::optional<Credential> find_credential(const std::string& host,
                                                        const std::string& repository);

// Whether programs that keep credentials may have to be asked.
[[nodiscard]] bool asks_programs();

}  // namespace pyram::registry
