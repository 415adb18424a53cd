// Where pulled images are kept, and found by `pyram --image REFERENCE` (support/image_reference.h):
//   images/DIGEST.sqfs   an image that was checked; DIGEST is that of the file, without "sha256:".
//                        Or the stub of one that is being fetched (fusefs/image/partial_image.h)
//   names/REFERENCE      a link to it
//   partial/DIGEST       what is being fetched; DIGEST.lazy: what can be used meanwhile
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "support/image_reference.h"

namespace pyram::registry {

class Store {
 public:
  // The user's, or for root the machine's, unless XDG_DATA_HOME says otherwise. Makes its
  // directories. Throws Error (kCannotWrite).
  Store();

  [[nodiscard]] std::filesystem::path image(const std::string& digest) const;
  [[nodiscard]] std::filesystem::path partial(const std::string& digest) const;
  // Images that are there and may have parts of one of that name, the likeliest first: those of the
  // same repository, then others, newer ones before older ones. Without the image itself.
  [[nodiscard]] std::vector<std::filesystem::path> similar(const ImageReference& reference,
                                                           const std::string& digest) const;
  // Gives an image that is there a name, in place of the one that it may name. Throws Error
  // (kCannotWrite).
  void set_name(const ImageReference& reference, const std::string& digest) const;

 private:
  std::filesystem::path directory_;
};

}  // namespace pyram::registry
