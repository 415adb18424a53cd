#include "support/nearest.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

namespace pyram {
namespace {

constexpr std::size_t kLongest = 64;      // Longer words are no misspelt names.
constexpr std::size_t kShortestPart = 2;  // One letter is the beginning of too many names.

// How many letters have to be added, removed, changed or swapped with the next one to make `to` of
// `from` (optimal string alignment).
std::size_t distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> before(to.size() + 1);
  std::vector<std::size_t> last(to.size() + 1);
  std::vector<std::size_t> row(to.size() + 1);
  for (std::size_t i = 0; i <= to.size(); ++i) last[i] = i;
  for (std::size_t i = 1; i <= from.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t change = from[i - 1] == to[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before.swap(last);
    last.swap(row);
  }
  return last[to.size()];
}

std::string_view without_dashes(std::string_view word) {
  return word.substr(std::min(word.find_first_not_of('-'), word.size()));
}

}  // namespace

std::string_view nearest(std::string_view word, std::span<const std::string_view> names) {
  const std::string_view wanted = without_dashes(word);
  if (wanted.empty() || wanted.size() > kLongest) return {};
  std::string_view best;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (const std::string_view name : names) {
    const std::string_view known = without_dashes(name);
    std::size_t far = distance(wanted, known);
    const bool begins = wanted.size() >= kShortestPart && known.starts_with(wanted);
    if (begins) far = std::min<std::size_t>(far, 1);
    // A third of the letters may be wrong, but not all of a short word.
    if (far > std::max<std::size_t>(1, wanted.size() / 3) || far >= known.size()) continue;
    if (far >= least) continue;
    least = far;
    best = name;
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string_view> names) {
  const std::string_view name = nearest(word, names);
  if (name.empty()) return {};
  return std::string(" (did you mean ").append(name).append("?)");
}

}  // namespace pyram
