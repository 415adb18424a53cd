// Merkle trees and signatures of images: what `build --sign`, `sign` and `verify` do. The form is
// in fusefs/image/merkle_tree.h.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fusefs/image/merkle_tree.h"

namespace pyram::builder {

// Throws Error (kUsage) unless the file is an Ed25519 private key in PEM. For callers who have much
// to do before they sign.
void check_signing_key(const std::filesystem::path& key);

// Puts a Merkle tree behind an image that has none, and signs it where `key` is not empty.
// Throws Error: kUsage for a key that is none, kCannotWrite where there is no room.
Trailer seal(const std::filesystem::path& image, const std::filesystem::path& key);

// The trailer of an image whose tree holds; nothing without one. Throws Error as
// MerkleTree::read().
[[nodiscard]] std::optional<Trailer> read_trailer(const std::filesystem::path& image);

// The Merkle tree of the data in a file before its trailer, as it stands in an image; nothing where
// it is not the one whose root the trailer has. Throws Error (kFailed).
[[nodiscard]] std::vector<std::byte> merkle_tree_of(int descriptor, const Trailer& trailer);

// Where an administrator puts the public keys of those whose images may be served or pulled.
inline constexpr char kTrustedKeys[] = "/etc/pyram/trust.d";

// The keys in such a directory (*.pem, *.pub), sorted; none where it does not exist. Throws Error
// (kVerification) when it can't be read.
[[nodiscard]] std::vector<std::filesystem::path> trusted_keys(
    const std::filesystem::path& directory);

// For verify_image(), of a command line on which a key may be named.
[[nodiscard]] std::vector<std::filesystem::path> keys_of(const std::filesystem::path& key);

// Throws Error (kVerification) unless one of `keys` (Ed25519 public keys in PEM) signed the image
// `name` whose trailer this is; kUsage for a key that is none. Without keys it does nothing.
void check_signer(const Trailer& trailer, const std::filesystem::path& name,
                  const std::vector<std::filesystem::path>& keys);

// `pyram-image verify`: checks every byte and, where there are `keys` (Ed25519 public keys in PEM),
// that one of them signed it. Returns what to tell the person. Throws Error: kVerification where
// anything differs, is unsigned or has no tree; kUsage for a key that is none.
[[nodiscard]] std::string verify_image(const std::filesystem::path& image,
                                       const std::vector<std::filesystem::path>& keys);

// `pyram-image sign`: has the image signed, in place of a signature that it may have. The file is
// replaced as a whole. Throws Error: kVerification for an image that isn't what was made.
// Returns what to tell the person.
[[nodiscard]] std::string sign_image(const std::filesystem::path& image,
                                     const std::filesystem::path& key);

// "sha256:" and 64 digits; "ed25519:" and 64 digits.
[[nodiscard]] std::string digest_text(const Sha256& digest);
[[nodiscard]] std::string key_text(const Trailer::Signature& signature);

}  // namespace pyram::builder
