#include "fusefs/image/sha256.h"

// The functions below OpenSSL's general ones: they cannot fail, need no tables of algorithms to be
// set up, and add 10 KB to a static program where the others add 4 MB.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <algorithm>

namespace pyram {

Sha256 sha256(std::span<const std::byte> bytes, std::size_t zeros) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  SHA256_CTX context;
  SHA256_Init(&context);
  SHA256_Update(&context, bytes.data(), bytes.size());
  while (zeros > 0) {
    const std::size_t n = std::min(zeros, kZeros.size());
    SHA256_Update(&context, kZeros.data(), n);
    zeros -= n;
  }
  Sha256 result{};
  SHA256_Final(reinterpret_cast<unsigned char*>(result.data()), &context);
  return result;
}

}  // namespace pyram
