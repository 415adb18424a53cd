// Where root's mounts for everybody are found by their image (support/image_key.h).
#pragma once

#include <filesystem>

namespace pyram {

// A symbolic link KEY -> mount point, for as long as this lives. Registers nothing where we are not
// the system's root; a registry that cannot be written is not an error, only a mount less to find.
class Registration {
 public:
  Registration(const std::filesystem::path& image, const std::filesystem::path& mount_point);
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  std::filesystem::path link_;
  std::filesystem::path target_;
};

}  // namespace pyram
