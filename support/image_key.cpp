#include "support/image_key.h"

#include <cstdint>

namespace pyram {
namespace {

// FNV-1a, 64 bits (offset basis and prime from its published definition). There is nothing to gain
// from a collision: the directory that the key names belongs to the user or to root.
class Fnv1a {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) add_byte(static_cast<unsigned char>(c));
    add_byte(0);  // So that "ab","c" and "a","bc" differ.
  }
  void add(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
      add_byte(static_cast<unsigned char>(value >> shift));
  }
  [[nodiscard]] std::uint64_t value() const { return hash_; }

 private:
  void add_byte(unsigned char byte) { hash_ = (hash_ ^ byte) * 0x100000001b3U; }

  std::uint64_t hash_ = 0xcbf29ce484222325U;
};

}  // namespace

std::string image_key(std::string_view canonical_path, const struct stat& status) {
  Fnv1a hash;
  hash.add(canonical_path);
  hash.add(status.st_ino);
  hash.add(static_cast<std::uint64_t>(status.st_size));
  hash.add(static_cast<std::uint64_t>(status.st_mtim.tv_sec));
  hash.add(static_cast<std::uint64_t>(status.st_mtim.tv_nsec));
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string key(16, '0');
  for (std::size_t i = 0; i < key.size(); ++i)
    key[i] = kDigits[(hash.value() >> (60 - 4 * i)) & 0xf];
  return key;
}

}  // namespace pyram
