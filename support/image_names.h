// Images by name: NAME is the first NAME.sqfs in the image directories.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pyram {

inline constexpr std::string_view kImageSuffix = ".sqfs";

// Where administrators put images, and where packages do.
inline constexpr char kLocalImages[] = "/usr/local/share/pyram/images";
inline constexpr char kPackagedImages[] = "/usr/share/pyram/images";

// Whether an image that was asked for is a file, by how it is written: it has a slash in it or ends
// in .sqfs. Everything else is a name.
[[nodiscard]] bool is_image_file(std::string_view wanted);

// `below` ("/pyram/...") in the user's directory for data, $XDG_DATA_HOME or ~/.local/share;
// nothing without a home.
[[nodiscard]] std::optional<std::string> users_data(std::string_view below);

// The user's own image directory.
[[nodiscard]] std::optional<std::string> users_images();

// The image directories, first one first: the user's, those beside `programs` (directories of
// programs under another prefix), kLocalImages, kPackagedImages.
[[nodiscard]] std::vector<std::string> image_directories(const std::vector<std::string>& programs);

// Whether directories that images were unpacked to count as images: `pyram` starts those too.
enum class Unpacked : bool { kNot, kToo };

// The names of the images in a directory.
void add_image_names(const std::string& directory, std::vector<std::string>& names,
                     Unpacked unpacked = Unpacked::kNot);

// The default image of the build tree that a program's directory is in, if it is in one.
[[nodiscard]] std::optional<std::string> build_tree_image(const std::string& program_directory);

// The directories of this program, for image_directories(); empty without /proc.
[[nodiscard]] std::vector<std::string> own_directories();

// "no image 'NAME' in DIRECTORY, ...; there are: OTHERS"
[[nodiscard]] std::string no_such_image(std::string_view name,
                                        const std::vector<std::string>& directories,
                                        Unpacked unpacked = Unpacked::kNot);

// What a command line means by `wanted`: the file itself, or that of the image of this name (a file
// of this name wins, as it always did), or of the pulled image with this reference
// (image_reference.h), as it is or as systemd-escape writes it. Throws Error (kBadImage) when there
// is none.
[[nodiscard]] std::string image_file(std::string_view wanted);

}  // namespace pyram
