#include "image-builder/images/install.h"

#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "fusefs/image/image.h"
#include "image-builder/images/list.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output_file.h"
#include "support/error.h"
#include "support/image_names.h"
#include "support/process.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// The mounts that systemd makes for everybody: /run/pyram/NAME by pyram-mount@NAME.service.
constexpr char kSystemMounts[] = "/run/pyram";

void check_name(const std::string& name) {
  constexpr char kPlain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
  if (!name.empty() && name.size() <= 64 && name[0] != '.' && name[0] != '-' &&
      name.find_first_not_of(kPlain) == std::string::npos) {
    return;
  }
  throw Error(ExitCode::kUsage, "cannot call an image " + quote(name) +
                                    ": a name has letters, digits and ._+- only; give one with "
                                    "--name");
}

std::string name_of(const fs::path& file) {
  std::string name = file.filename().native();
  if (name.ends_with(kImageSuffix)) name.resize(name.size() - kImageSuffix.size());
  return name;
}

fs::path target_directory(const InstallOptions& options) {
  if (::geteuid() == 0 && !options.user) return kLocalImages;
  if (auto own = users_images()) return *own;
  throw Error(ExitCode::kCannotWrite,
              "cannot install for this user: neither HOME nor XDG_DATA_HOME is set");
}

// That it can be mounted, and is what was made where it has a Merkle tree.
void check_image(const fs::path& image, const fs::path& key) {
  const auto opened = Image::open(image);
  if (!key.empty() || read_trailer(image)) static_cast<void>(verify_image(image, keys_of(key)));
}

// A name for a new file beside the target.
fs::path partial_name(const fs::path& target) {
  return target.parent_path() /
         ("." + target.filename().native() + "-" + std::to_string(::getpid()));
}

void make_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw Error(ExitCode::kCannotWrite, "cannot make the image directory " +
                                            quote(directory.native()) + ": " + error.message());
  }
}

// What is to be done, or was, for those who go on with the content that was mounted before.
std::string tell_of_mounts(const std::vector<fs::path>& mounts, const std::string& name,
                           bool restart) {
  std::string text;
  const std::string unit = "pyram-mount@" + name + ".service";
  for (const fs::path& point : mounts) {
    if (point != fs::path(kSystemMounts) / name) continue;
    if (!restart) {
      text += quote(point.native()) +
              " still shows the old one; at a time that suits you: " + "systemctl restart " + unit +
              "\n";
      continue;
    }
    static_cast<void>(run_or_throw({{"systemctl", "try-restart", unit}, {}, {}}, ExitCode::kFailed,
                                   "restart " + unit));
    text += quote(point.native()) + " shows the new one\n";
  }
  if (!mounts.empty())
    text += "Programs that run go on with the old one; new ones take the new one.\n";
  return text;
}

}  // namespace

std::string install_image(const InstallOptions& options) {
  const fs::path image = image_file(options.image);
  const std::string name = options.name.empty() ? name_of(image) : options.name;
  check_name(name);
  check_image(image, options.key);
  const fs::path directory = target_directory(options);
  make_directory(directory);
  const fs::path target = directory / (name + std::string(kImageSuffix));
  std::error_code error;
  if (fs::equivalent(image, target, error)) {
    return quote(target.native()) + " is this image already\n";
  }
  check_output(target);
  const std::vector<fs::path> mounts = mounts_of(target);
  {
    const UnfinishedFile partial(partial_name(target));
    copy_content(image, partial.path());
    // Of what was checked before, another process may have made something else meanwhile.
    check_image(partial.path(), options.key);
    put_in_place(partial.path(), target);
  }
  std::string text = "installed " + quote(target.native()) + "; run it: pyram" +
                     (name == "default" ? "" : " --image " + name) + "\n";
  for (const NamedImage& other : named_images()) {
    if (other.file == target && other.hidden) {
      text += "An image of the same name comes before it: " + image_file(name) + "\n";
    }
  }
  return text + tell_of_mounts(mounts, name, options.restart);
}

std::string remove_image(const std::string& name) {
  const fs::path image = image_file(name);
  if (is_image_file(name)) {
    throw Error(ExitCode::kUsage, "cannot remove " + quote(name) +
                                      ": give the name of an installed image; a file is removed "
                                      "by rm");
  }
  if (image.parent_path() == kPackagedImages &&
      run({{"dpkg", "--search", image.native()}, {}, {}}).ok()) {
    throw Error(ExitCode::kUsage, "cannot remove " + quote(image.native()) +
                                      ": a package brought it; remove that with apt");
  }
  const std::vector<fs::path> mounts = mounts_of(image);
  if (::unlink(image.c_str()) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "remove " + quote(image.native()));
  }
  std::string text = "removed " + quote(image.native()) + "\n";
  for (const fs::path& point : mounts) {
    text += "It is mounted on " + quote(point.native()) +
            " until that is unmounted; programs that run go on\n";
  }
  for (const NamedImage& other : named_images()) {
    if (other.name == name && !other.hidden) {
      text += name + " is now " + quote(other.file.native()) + "\n";
    }
  }
  return text;
}

}  // namespace pyram::builder
