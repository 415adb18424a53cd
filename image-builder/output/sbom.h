// .pyram/sbom.spdx.json: what an image is made of, for programs that watch over such things.
#pragma once

#include <nlohmann/json.hpp>

namespace pyram::builder {

// An SPDX 2.3 document of the packages that a manifest lists. The same manifest gives the same
// document: its identifier is made from the packages' digests, its time is the image's.
[[nodiscard]] nlohmann::json make_sbom(const nlohmann::json& manifest);

}  // namespace pyram::builder
