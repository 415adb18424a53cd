// The hot list: which bytes of which files a start reads, in order, as training runs saw it.
//
// Lies in the image as .pyram/hot. Text:
//   pyram hot list 1
//   OFFSET LENGTH PATH       bytes of a file, PATH relative to the image's root
//   group PATH               what follows is only wanted once PATH is read
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pyram {

class Image;

inline constexpr std::string_view kHotListHeader = "pyram hot list 1\n";
// What anyone reads of a hot list at most, in bytes.
inline constexpr std::uint64_t kHotListLimit = std::uint64_t{4} << 20;

struct HotRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::string path;
};

struct HotGroup {
  std::string trigger;  // Empty: wanted from the start.
  std::vector<HotRange> ranges;
};

// Throws Error (kBadImage) when `text` is no hot list.
[[nodiscard]] std::vector<HotGroup> parse_hot_list(std::string_view text);

// The hot list of an image; empty where it has none. Throws Error when it has a broken one.
[[nodiscard]] std::vector<HotGroup> hot_groups(const Image& image);

// One line, with its end.
[[nodiscard]] std::string format_hot_range(const HotRange& range);

}  // namespace pyram
