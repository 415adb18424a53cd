#include "fusefs/image/hot_list.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "fusefs/image/image.h"
#include "support/error.h"
#include "support/image_layout.h"

namespace pyram {
namespace {

[[noreturn]] void refuse(std::string_view line) {
  throw Error(ExitCode::kBadImage, "the hot list has a line that makes no sense: " +
                                       quote(line.substr(0, 100)) + "; build the image again");
}

// Takes a number and the space behind it off the front.
std::uint64_t take_number(std::string_view& text, std::string_view line) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  if (error != std::errc() || end == text.end() || *end != ' ') refuse(line);
  text.remove_prefix(static_cast<std::size_t>(end - text.begin()) + 1);
  return number;
}

}  // namespace

std::vector<HotGroup> parse_hot_list(std::string_view text) {
  if (!text.starts_with(kHotListHeader)) refuse(text.substr(0, text.find('\n')));
  text.remove_prefix(kHotListHeader.size());
  std::vector<HotGroup> groups(1);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    constexpr std::string_view kGroup = "group ";
    if (line.starts_with(kGroup)) {
      if (line.size() == kGroup.size()) refuse(line);
      groups.push_back({.trigger = std::string(line.substr(kGroup.size())), .ranges = {}});
      continue;
    }
    std::string_view rest = line;
    HotRange range;
    range.offset = take_number(rest, line);
    range.length = take_number(rest, line);
    range.path = rest;
    if (range.path.empty() || range.offset > ~std::uint64_t{0} - range.length) refuse(line);
    groups.back().ranges.push_back(std::move(range));
  }
  return groups;
}

std::string format_hot_range(const HotRange& range) {
  return std::to_string(range.offset) + " " + std::to_string(range.length) + " " + range.path +
         "\n";
}

std::vector<HotGroup> hot_groups(const Image& image) {
  const auto list = find_path(image, layout::kHotList);
  if (!list || !S_ISREG(image.attributes(*list).mode)) return {};
  return parse_hot_list(read_image_file(image, *list, kHotListLimit));
}

}  // namespace pyram
