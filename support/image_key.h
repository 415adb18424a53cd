// The name by which launcher and daemon agree that two mounts are of the same image file.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>

namespace pyram {

// The directory that root's mounts are registered in: KEY is a symbolic link to the mount point.
inline constexpr char kSystemMountRegistry[] = "/run/pyram/by-image";

// 16 hexadecimal digits, made from the file's canonical path, inode number, size and time of
// modification. The same after a reboot (hence no device number: it may change); another one when
// the file is replaced. Not a secret and not a digest of the content.
[[nodiscard]] std::string image_key(std::string_view canonical_path, const struct stat& status);

}  // namespace pyram
