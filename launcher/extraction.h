// The last way: an image's content unpacked into RAM, for machines without FUSE.
//
// It is put into the first of these that is in RAM (tmpfs), lets programs run, and has the room:
// the run-time directory, /dev/shm/pyram-UID, /tmp/pyram-UID; if there is none, into the run-time
// directory on disk. It stays for the next start, until a reboot or until it is removed.
#pragma once

#include <optional>
#include <string>

#include "launcher/executable.h"
#include "launcher/image_place.h"

namespace pyram::launcher {

// What an earlier start unpacked, whole, if there is one.
[[nodiscard]] std::optional<Root> find_extracted(const ImagePlace& place);

// Unpacks, and says so on stderr, with `reason` for why no mount is used. Throws Error when it
// would take more memory than the machine or the cgroup has free. REQUIRES: the place's lock.
[[nodiscard]] Root extract(const ImagePlace& place, const ChosenImage& image,
                           const Executable& self, const std::string& reason);

// Where it would be put; for the doctor. Best first.
struct ExtractionDirectory {
  std::string path;
  bool shared = false;  // As RuntimeDirectory::shared().
  bool in_ram = false;
  bool executable = false;      // Programs may run from there.
  unsigned long long room = 0;  // Bytes.
};
[[nodiscard]] std::vector<ExtractionDirectory> extraction_directories(
    const RuntimeDirectory& directory);

}  // namespace pyram::launcher
