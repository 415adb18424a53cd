#include "fusefs/supervise/registry.h"

#include <sys/stat.h>
#include <unistd.h>

#include <system_error>

#include "support/error.h"
#include "support/image_key.h"
#include "support/io.h"

namespace pyram {
namespace {

namespace fs = std::filesystem;

// Root of a user namespace has the number 0 as well, but no rights outside.
bool is_system_root() {
  if (::geteuid() != 0) return false;
  try {
    const std::string map = read_file("/proc/self/uid_map");
    return map.find("4294967295") != std::string::npos;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Registration::Registration(const fs::path& image, const fs::path& mount_point) {
  struct stat status {};
  if (!is_system_root() || ::stat(image.c_str(), &status) != 0) return;
  const fs::path directory = kSystemMountRegistry;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return;
  // What a daemon that was killed left behind for this mount point.
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    std::error_code gone;
    if (fs::read_symlink(entry.path(), gone) == mount_point) fs::remove(entry.path(), gone);
  }
  const fs::path link = directory / image_key(image.native(), status);
  // By way of a new name: readers see the old link or the new one.
  const fs::path temporary = link.native() + "." + std::to_string(::getpid());
  fs::create_symlink(mount_point, temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (error) {
    fs::remove(temporary, error);
    return;
  }
  link_ = link;
  target_ = mount_point;
}

Registration::~Registration() {
  if (link_.empty()) return;
  std::error_code error;
  // Another mount of the same image may have taken the place.
  if (fs::read_symlink(link_, error) == target_) fs::remove(link_, error);
}

}  // namespace pyram
