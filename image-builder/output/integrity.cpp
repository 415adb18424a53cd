#include "image-builder/output/integrity.h"

#include <fcntl.h>
#include <libfsverity.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "fusefs/image/image.h"
#include "image-builder/digest.h"
#include "image-builder/output_file.h"
#include "support/error.h"
#include "support/io.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

unsigned char* as_unsigned(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* as_unsigned(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

// Refuses to ask for a pass phrase: there may be no person at a terminal.
int no_pass_phrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) { return -1; }

enum class KeyKind { kPrivate, kPublic };

Key read_key(const fs::path& file, KeyKind kind) {
  const std::string text = read_file(file);
  const std::unique_ptr<BIO, decltype(&BIO_free)> source(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
  Key key(kind == KeyKind::kPrivate
              ? PEM_read_bio_PrivateKey(source.get(), nullptr, &no_pass_phrase, nullptr)
              : PEM_read_bio_PUBKEY(source.get(), nullptr, &no_pass_phrase, nullptr),
          &EVP_PKEY_free);
  if (!key || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519) {
    throw Error(ExitCode::kUsage,
                "cannot use the key " + quote(file.native()) + ": it is no Ed25519 " +
                    (kind == KeyKind::kPrivate
                         ? "private key without a pass phrase; openssl genpkey -algorithm ed25519 "
                           "makes one"
                         : "public key; openssl pkey -in PRIVATE -pubout makes it"));
  }
  return key;
}

std::array<std::byte, 32> public_bytes(const Key& key) {
  std::array<std::byte, 32> result{};
  std::size_t size = result.size();
  if (EVP_PKEY_get_raw_public_key(key.get(), as_unsigned(result.data()), &size) != 1 ||
      size != result.size()) {
    throw Error(ExitCode::kFailed, "cannot use the key: OpenSSL refuses");
  }
  return result;
}

Trailer::Signature sign(const Sha256& digest, const Key& key) {
  Trailer::Signature result;
  result.key = public_bytes(key);
  const auto text = signed_text(digest);
  std::size_t size = result.bytes.size();
  const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), as_unsigned(result.bytes.data()), &size,
                     as_unsigned(text.data()), text.size()) != 1 ||
      size != result.bytes.size()) {
    throw Error(ExitCode::kFailed, "cannot sign the image: OpenSSL refuses");
  }
  return result;
}

bool is_signed_by(const Trailer& trailer, const Key& key) {
  const auto text = signed_text(trailer.digest);
  const auto& bytes = trailer.signature->bytes;
  const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  return context &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), as_unsigned(bytes.data()), bytes.size(),
                          as_unsigned(text.data()), text.size()) == 1;
}

// What libfsverity reads, and what it makes of it.
struct Computation {
  int descriptor = -1;
  std::uint64_t position = 0;
  std::vector<std::byte> tree;
  std::array<std::byte, Trailer::kDescriptorSize> made{};
};

// The callbacks below return 0 or a negative errno value; no exception crosses the library.
int read_data(void* data, void* buffer, std::size_t count) {
  auto& computation = *static_cast<Computation*>(data);
  try {
    const std::span bytes(static_cast<std::byte*>(buffer), count);
    if (pread_full(computation.descriptor, bytes, computation.position) != count) return -EIO;
    computation.position += count;
    return 0;
  } catch (...) {
    return -EIO;
  }
}

int take_tree_size(void* data, std::uint64_t size) {
  try {
    static_cast<Computation*>(data)->tree.resize(size);
    return 0;
  } catch (...) {
    return -ENOMEM;
  }
}

int take_tree_block(void* data, const void* block, std::size_t size, std::uint64_t offset) {
  auto& tree = static_cast<Computation*>(data)->tree;
  if (offset > tree.size() || size > tree.size() - offset) return -EINVAL;
  std::memcpy(tree.data() + offset, block, size);
  return 0;
}

int take_descriptor(void* data, const void* descriptor, std::size_t size) {
  auto& made = static_cast<Computation*>(data)->made;
  if (size != made.size()) return -EINVAL;
  std::memcpy(made.data(), descriptor, size);
  return 0;
}

// The image's tree, computed by fs-verity's own library, and the header without a signature.
Trailer compute(Computation& computation, std::uint64_t data_size) {
  libfsverity_metadata_callbacks callbacks{};
  callbacks.ctx = &computation;
  callbacks.merkle_tree_size = &take_tree_size;
  callbacks.merkle_tree_block = &take_tree_block;
  callbacks.descriptor = &take_descriptor;
  libfsverity_merkle_tree_params parameters{};
  parameters.version = 1;
  parameters.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
  parameters.file_size = data_size;
  parameters.block_size = Trailer::kBlockSize;
  parameters.metadata_callbacks = &callbacks;
  libfsverity_digest* raw = nullptr;
  const int result = ::libfsverity_compute_digest(&computation, &read_data, &parameters, &raw);
  const std::unique_ptr<libfsverity_digest, decltype(&std::free)> digest(raw, &std::free);
  Trailer trailer;
  if (result != 0 || !digest || digest->digest_size != trailer.digest.size()) {
    throw system_error(ExitCode::kFailed, -result, "compute the image's Merkle tree");
  }
  std::memcpy(trailer.digest.data(), digest->digest, trailer.digest.size());
  std::memcpy(trailer.root.data(), computation.made.data() + 16, trailer.root.size());
  trailer.data_size = data_size;
  trailer.tree_size = computation.tree.size();
  return trailer;
}

void write_at(int fd, std::uint64_t position, std::span<const std::byte> bytes,
              const fs::path& file) {
  if (::lseek(fd, static_cast<off_t>(position), SEEK_SET) < 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(file.native()));
  }
  write_full(fd, bytes, quote(file.native()));
}

UniqueFd open_image(const fs::path& image, int flags) {
  UniqueFd fd(::open(image.c_str(), flags | O_CLOEXEC));
  if (!fd) {
    throw system_error(flags == O_RDONLY ? ExitCode::kBadImage : ExitCode::kCannotWrite, errno,
                       "open " + quote(image.native()));
  }
  return fd;
}

// For what needs every byte, and the file itself.
std::unique_ptr<Image> whole_image(const fs::path& image) {
  ImageFile file = Image::open_file(image);
  if (file.partial() != nullptr) {
    const MapHead head = file.partial()->head();
    throw Error(ExitCode::kBadImage, "cannot use all of the image " + quote(image.native()) +
                                         ": it is being fetched, and " +
                                         std::to_string(head.here * 100 / head.size) +
                                         "% of it is here; wait, or run pyram-image pull, which "
                                         "waits for the rest");
  }
  return std::make_unique<Image>(std::move(file));
}

// A new file beside another, which is removed unless it takes the other's place.
class Replacement {
 public:
  explicit Replacement(const fs::path& file)
      : name_((file.parent_path() / ("." + file.filename().native() + "-XXXXXX")).native()),
        file_(::mkostemp(name_.data(), O_CLOEXEC)) {
    if (!file_) {
      throw system_error(ExitCode::kCannotWrite, errno,
                         "make a file beside " + quote(file.native()));
    }
  }
  ~Replacement() {
    if (!placed_) ::unlink(name_.c_str());
  }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;
  [[nodiscard]] fs::path name() const { return name_; }
  [[nodiscard]] int descriptor() const { return file_.get(); }
  void place(const fs::path& file) {
    put_in_place(name_, file);
    placed_ = true;
  }

 private:
  std::string name_;
  UniqueFd file_;
  bool placed_ = false;
};

}  // namespace

void check_signing_key(const fs::path& key) { (void)read_key(key, KeyKind::kPrivate); }

Trailer seal(const fs::path& image, const fs::path& key) {
  const std::uint64_t position = trailer_position(Image::open(image)->superblock().bytes_used);
  const UniqueFd fd = open_image(image, O_RDWR);
  // mksquashfs ends a file at a whole block already, unless it is told otherwise.
  if (::ftruncate(fd.get(), static_cast<off_t>(position)) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "write " + quote(image.native()));
  }
  Computation computation;
  computation.descriptor = fd.get();
  Trailer trailer = compute(computation, position);
  if (!key.empty()) trailer.signature = sign(trailer.digest, read_key(key, KeyKind::kPrivate));
  write_at(fd.get(), position, format_trailer(trailer), image);
  write_full(fd.get(), computation.tree, quote(image.native()));
  return trailer;
}

std::optional<Trailer> read_trailer(const fs::path& image) {
  const std::uint64_t bytes_used = whole_image(image)->superblock().bytes_used;
  const UniqueFd fd = open_image(image, O_RDONLY);
  const auto tree = MerkleTree::read(fd.get(), 0, bytes_used, quote(image.native()));
  return tree ? std::optional(tree->trailer()) : std::nullopt;
}

std::vector<std::byte> merkle_tree_of(int descriptor, const Trailer& trailer) {
  Computation computation;
  computation.descriptor = descriptor;
  if (compute(computation, trailer.data_size).root != trailer.root) return {};
  return std::move(computation.tree);
}

std::vector<fs::path> trusted_keys(const fs::path& directory) {
  std::vector<fs::path> keys;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const fs::path extension = entry.path().extension();
    if (extension == ".pem" || extension == ".pub") keys.push_back(entry.path());
  }
  // A directory that can't be read would let everything through.
  if (error && error != std::errc::no_such_file_or_directory) {
    throw system_error(ExitCode::kVerification, error.value(),
                       "read the keys in " + quote(directory.native()));
  }
  std::ranges::sort(keys);
  return keys;
}

std::vector<fs::path> keys_of(const fs::path& key) {
  if (key.empty()) return {};
  return {key};
}

void check_signer(const Trailer& trailer, const fs::path& name, const std::vector<fs::path>& keys) {
  if (keys.empty()) return;
  std::vector<Key> known;
  known.reserve(keys.size());
  for (const fs::path& key : keys) known.push_back(read_key(key, KeyKind::kPublic));
  if (!trailer.signature) {
    throw Error(ExitCode::kVerification, "the image " + quote(name.native()) + " is not signed");
  }
  if (std::ranges::none_of(known, [&](const Key& key) { return is_signed_by(trailer, key); })) {
    throw Error(ExitCode::kVerification,
                "the image " + quote(name.native()) + " is not signed by " +
                    (keys.size() == 1
                         ? "the key " + quote(keys.front().native())
                         : "one of the keys in " + quote(keys.front().parent_path().native())) +
                    "; do not use it");
  }
}

std::string verify_image(const fs::path& image, const std::vector<fs::path>& keys) {
  for (const fs::path& key : keys) (void)read_key(key, KeyKind::kPublic);
  const std::uint64_t bytes_used = whole_image(image)->superblock().bytes_used;
  const UniqueFd fd = open_image(image, O_RDONLY);
  const auto tree = MerkleTree::read(fd.get(), 0, bytes_used, quote(image.native()));
  if (!tree) {
    throw Error(ExitCode::kVerification,
                "cannot verify the image " + quote(image.native()) +
                    ": it has no Merkle tree; pyram-image sign gives it one, if you trust it");
  }
  const Trailer& trailer = tree->trailer();
  check_signer(trailer, image, keys);
  tree->check_all(fd.get(), 0);
  std::string text = image.native() + ": whole, " + digest_text(trailer.digest) + "\n";
  if (!keys.empty()) {
    text += "signed by " + key_text(*trailer.signature) + "\n";
  } else if (trailer.signature) {
    text += "has a signature of " + key_text(*trailer.signature) +
            ", which was not checked: name the key with --key\n";
  } else {
    text += "not signed\n";
  }
  return text;
}

std::string sign_image(const fs::path& given, const fs::path& key) {
  // Where the name is a link, what it leads to is signed, and the link stays one.
  std::error_code missing;
  const fs::path image = fs::canonical(given, missing);
  if (missing) {
    throw system_error(ExitCode::kBadImage, missing.value(), "open " + quote(given.native()));
  }
  const Key by = read_key(key, KeyKind::kPrivate);
  const std::uint64_t bytes_used = whole_image(image)->superblock().bytes_used;
  const UniqueFd fd = open_image(image, O_RDONLY);
  const auto tree = MerkleTree::read(fd.get(), 0, bytes_used, quote(image.native()));
  // What is signed has to be what was made.
  if (tree) tree->check_all(fd.get(), 0);
  Replacement replacement(image);
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (std::uint64_t done = 0;;) {
    const std::size_t n = pread_full(fd.get(), buffer, done);
    write_full(replacement.descriptor(), std::span(buffer).first(n), quote(image.native()));
    if (n < buffer.size()) break;
    done += n;
  }
  Trailer trailer;
  if (tree) {
    trailer = tree->trailer();
    trailer.signature = sign(trailer.digest, by);
    write_at(replacement.descriptor(), trailer.data_size, format_trailer(trailer), image);
  } else {
    trailer = seal(replacement.name(), key);
  }
  replacement.place(image);
  return given.native() + ": " + digest_text(trailer.digest) + "\nsigned by " +
         key_text(*trailer.signature) + "\n";
}

std::string digest_text(const Sha256& digest) { return "sha256:" + hexadecimal(digest); }

std::string key_text(const Trailer::Signature& signature) {
  return "ed25519:" + hexadecimal(signature.key);
}

}  // namespace pyram::builder
