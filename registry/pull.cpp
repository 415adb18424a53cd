#include "registry/pull.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "image-builder/digest.h"
#include "image-builder/elf/architecture.h"
#include "image-builder/output/integrity.h"
#include "image-builder/output_file.h"
#include "image-builder/progress.h"
#include "registry/difference.h"
#include "registry/download.h"
#include "registry/lazy_pull.h"
#include "registry/registry.h"
#include "registry/sharing.h"
#include "registry/store.h"
#include "support/amounts.h"
#include "support/error.h"
#include "support/image_reference.h"

namespace pyram::registry {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMostTable = BlockTable::kLongestText;

// Where an image goes, and where it is until it is whole.
struct Place {
  fs::path image;
  fs::path partial;
};

Place choose_place(const fs::path& output, const std::string& digest,
                   const std::optional<Store>& store) {
  if (store) return {store->image(digest), store->partial(digest)};
  const fs::path image = fs::absolute(output);
  builder::check_output(image);
  const std::string name = "." + image.filename().native() + "-" + digest.substr(7, 16);
  return {image, image.parent_path() / (name + ".partial")};
}

bool is_reference_to_url(const std::string& source) {
  return source.starts_with("https://") || source.starts_with("http://");
}

// The image's manifest, by whatever index leads to it.
struct Found {
  std::string manifest_digest;
  Descriptor layer;
  std::string image_digest;  // Of the Merkle tree; the manifest's digest covers it. May be empty.
};

std::string get_manifest(Registry& registry, const std::string& tag_or_digest,
                         const std::string& name) {
  auto text = registry.manifest(tag_or_digest);
  if (!text) {
    throw Error(ExitCode::kBadSource, "there is no " + quote(name) +
                                          " in the registry, or nobody may see it without "
                                          "logging in; skopeo list-tags shows what there is");
  }
  return *std::move(text);
}

const Descriptor& choose_entry(const std::vector<Descriptor>& entries,
                               const std::string& architecture, const std::string& name) {
  std::string known;
  for (const Descriptor& entry : entries) {
    if (entry.architecture == architecture) return entry;
    known += (known.empty() ? "" : ", ") + escape(entry.architecture.substr(0, 40));
  }
  throw Error(ExitCode::kBadSource, "there is no " + quote(name) + " for " + architecture +
                                        " in the registry; there is: " + known +
                                        " (--arch says which)");
}

Found find_image(Registry& registry, const ImageReference& reference, const PullOptions& options) {
  const std::string wanted(reference.digest.empty() ? reference.tag : reference.digest);
  std::string text = get_manifest(registry, wanted, options.source);
  if (is_index(text, options.source)) {
    const std::string architecture = options.architecture.empty()
                                         ? std::string(builder::own_architecture().debian)
                                         : options.architecture;
    const auto entries = parse_index(text, options.source);
    text = get_manifest(registry, choose_entry(entries, architecture, options.source).digest,
                        options.source);
  }
  const Artifact artifact = parse_artifact(text, options.source);
  const bool is_image =
      artifact.layers.size() == 1 &&
      (artifact.layers[0].media_type == kLayerType || artifact.type.ends_with("squashfs"));
  if (!is_image) {
    throw Error(ExitCode::kBadSource, "cannot pull " + quote(options.source) +
                                          ": it is no image of Pyram's, which pyram-image push "
                                          "makes, but for example a container");
  }
  const auto image_digest = artifact.annotations.find(kImageDigest);
  const bool has_digest =
      image_digest != artifact.annotations.end() && is_digest(image_digest->second);
  return {describe(text, kManifestType).digest, artifact.layers[0],
          has_digest ? image_digest->second : std::string()};
}

// Checks every byte, and who signed it. What doesn't hold is removed.
void verify(PartialFile& file, const std::vector<fs::path>& keys, const std::string& source) {
  try {
    (void)builder::verify_image(file.path(), keys);
  } catch (const Error& error) {
    file.remove();
    throw Error(error.code() == ExitCode::kUsage ? ExitCode::kUsage : ExitCode::kVerification,
                "refusing what came from " + quote(source) + ": " + error.what());
  }
}

std::string report(const std::string& source, const fs::path& image,
                   const std::vector<fs::path>& keys, std::optional<Trailer> of_lazy = {}) {
  const auto trailer = of_lazy ? of_lazy : builder::read_trailer(image);
  std::string text = source + (of_lazy ? ": can be used, and is being fetched, " : ": whole, ") +
                     builder::digest_text(trailer->digest) + "\n";
  if (!trailer->signature) {
    text += "not signed\n";
  } else if (keys.empty()) {
    text += "has a signature of " + builder::key_text(*trailer->signature) +
            ", which was not checked: name the key with --key, or put it into " +
            std::string(builder::kTrustedKeys) + "\n";
  } else {
    text += "signed by " + builder::key_text(*trailer->signature) + "\n";
  }
  return text + "in " + image.native() + "\n";
}

class Pull {
 public:
  explicit Pull(const PullOptions& options)
      : options_(options),
        keys_(options.keys.empty() ? builder::trusted_keys(builder::kTrustedKeys) : options.keys),
        progress_(2, options.quiet) {}

  std::string from_registry(const ImageReference& reference) {
    Registry registry(reference, options_.session, Registry::Access::kPull);
    const Found found = find_image(registry, reference, options_);
    std::optional<Store> store;
    if (options_.output.empty()) store.emplace();
    const std::string& digest = found.layer.digest;
    const Place place = choose_place(options_.output, digest, store);
    PartialFile file(place.partial);
    const auto step = [this](double done) { progress_.step(done); };
    if (options_.lazy && !is_there(place.image, digest)) {
      LazySource source = source_of(registry.blob_url(digest), std::string(reference.host),
                                    std::string(reference.repository));
      source.image_digest = found.image_digest;
      source.file_digest = digest;
      if (const auto trailer = begin(source, place, file, found.layer.size)) {
        file.remove();
        if (store) store->set_name(reference, digest);
        return report(options_.source, place.image, keys_, trailer) + "manifest " +
               found.manifest_digest + "\n";
      }
    }
    wait_for_rest(place.image);
    Reused reused;
    if (is_there(place.image, digest)) {
      file.remove();
      (void)builder::verify_image(place.image, keys_);
    } else {
      progress_.phase("fetching " + options_.source + ", " + megabytes(found.layer.size));
      const auto old = old_images(place.image, store, reference, digest);
      reused = reuse_blocks(
          {.old = old,
           .size = found.layer.size,
           .table =
               [&] { return registry.referrer(found.manifest_digest, kBlocksType, kMostTable); },
           .fetch = [&](std::uint64_t,
                        std::uint64_t end) { registry.fetch_part(found.layer, end, file, step); },
           .note = note_},
          file);
      if (registry.fetch(found.layer, file, step)) forget(reused);
      check_and_place(file, place.image, old);
    }
    if (store) store->set_name(reference, digest);
    return report(options_.source, place.image, keys_) + "manifest " + found.manifest_digest +
           "\n" + reused.said + shared();
  }

  std::string from_url() {
    Session session(options_.session, host_of(options_.source), "", "");
    const Place place = choose_place(options_.output, options_.digest, std::nullopt);
    PartialFile file(place.partial);
    if (options_.lazy) {
      LazySource source = source_of(options_.source, host_of(options_.source), "");
      source.image_digest = options_.digest;
      if (const auto trailer = begin(source, place, file, 0)) {
        file.remove();
        return report(options_.source, place.image, keys_, trailer);
      }
    }
    if (wait_for_rest(place.image) && is_what_was_meant(place.image)) {
      file.remove();
      (void)builder::verify_image(place.image, keys_);
      return report(options_.source, place.image, keys_);
    }
    progress_.phase("fetching " + options_.source);
    const auto step = [this](double done) { progress_.step(done); };
    const auto old = old_images(place.image);
    Reused reused = reuse_blocks({.old = old,
                                  .table = [&] { return get_table(session); },
                                  .fetch =
                                      [&](std::uint64_t size, std::uint64_t end) {
                                        download(session, {options_.source, size, step, end}, file);
                                      },
                                  .note = note_},
                                 file);
    for (bool is_second = false;; is_second = true) {
      if (is_second) forget(reused);
      Wanted wanted{.url = options_.source, .progress = step};
      if (reused.size != 0) wanted.size = reused.size;
      download(session, wanted, file);
      if (is_what_was_meant(file.path())) break;
      if (is_second) {
        file.remove();
        throw Error(ExitCode::kVerification, "refusing what came from " + shown(options_.source) +
                                                 ": it is not " + options_.digest);
      }
      // The beginning may have been spoiled by a crash, or be of an older file.
      file.clear();
    }
    check_and_place(file, place.image, old);
    return report(options_.source, place.image, keys_) + reused.said + shared();
  }

 private:
  [[nodiscard]] LazySource source_of(std::string url, std::string host,
                                     std::string repository) const {
    LazySource source;
    source.name = options_.source;
    source.url = std::move(url);
    source.host = std::move(host);
    source.repository = std::move(repository);
    source.rate = options_.rate;
    source.session = options_.session;
    // Who fetches the rest runs elsewhere.
    fs::path& certificates = source.session.http.certificates;
    if (!certificates.empty()) certificates = fs::absolute(certificates);
    return source;
  }

  // Nothing where the image has to come as a whole.
  [[nodiscard]] std::optional<Trailer> begin(const LazySource& source, const Place& place,
                                             PartialFile& file, std::uint64_t size) {
    std::optional<Trailer> trailer;
    if (!source.image_digest.empty()) {
      try {
        trailer = begin_lazily({.source = source,
                                .image = place.image,
                                .directory = place.partial.native() + ".lazy",
                                .size = size,
                                .keys = keys_});
      } catch (...) {
        if (file.size() == 0) file.remove();
        throw;
      }
    }
    if (!trailer && !options_.quiet) {
      progress_.note("this server or this image can only be fetched as a whole");
    }
    return trailer;
  }

  // Where the image is on its way already.
  bool wait_for_rest(const fs::path& image) {
    const SessionOptions& session = options_.session;
    constexpr std::chrono::seconds kBetween{8};
    return wait_until_whole(image, (session.http.patience + kBetween) * (session.retries + 1),
                            [this](double done) {
                              if (!is_waiting_) progress_.phase("fetching the rest");
                              is_waiting_ = true;
                              progress_.step(done);
                            });
  }

  // By the file's digest, or the one that the image's own tools show.
  [[nodiscard]] bool is_what_was_meant(const fs::path& file) const {
    if ("sha256:" + builder::sha256_of_file(file) == options_.digest) return true;
    try {
      const auto trailer = builder::read_trailer(file);
      return trailer && builder::digest_text(trailer->digest) == options_.digest;
    } catch (const Error&) {
      return false;
    }
  }

  // What the file system keeps once; nothing where it can't.
  [[nodiscard]] std::string shared() const {
    return shared_ == 0 ? std::string()
                        : "shares " + megabytes(shared_) + " with old images on disk\n";
  }

  // What was made of parts was another image, so all of it is fetched.
  void forget(Reused& reused) {
    if (reused.size != 0) note_("nothing is reused: the parts of old images did not make this one");
    reused = {};
  }

  // Those that were named, the one that is replaced, and those in the store.
  [[nodiscard]] std::vector<fs::path> old_images(const fs::path& image) const {
    std::vector<fs::path> images = options_.from;
    std::error_code error;
    if (fs::is_regular_file(image, error)) images.push_back(image);
    return images;
  }
  [[nodiscard]] std::vector<fs::path> old_images(const fs::path& image,
                                                 const std::optional<Store>& store,
                                                 const ImageReference& reference,
                                                 const std::string& digest) const {
    std::vector<fs::path> images = old_images(image);
    if (store) {
      const auto similar = store->similar(reference, digest);
      images.insert(images.end(), similar.begin(), similar.end());
    }
    return images;
  }

  // The table of blocks beside an image at a URL: its address with ".blocks" behind the path.
  [[nodiscard]] std::optional<std::string> get_table(Session& session) const {
    Request request;
    request.url = options_.source;
    request.url.insert(std::min(request.url.find('?'), request.url.size()), ".blocks");
    request.most = kMostTable;
    Response response = session.send(request);
    if (response.status == 200) return std::move(response.body);
    if (response.status != 404) {
      throw Error(ExitCode::kBadSource,
                  "cannot fetch " + shown(request.url) + ": " + reason_in(response));
    }
    return std::nullopt;
  }

  static bool is_there(const fs::path& image, const std::string& digest) {
    std::error_code error;
    return fs::is_regular_file(image, error) &&
           "sha256:" + builder::sha256_of_file(image) == digest;
  }

  void check_and_place(PartialFile& file, const fs::path& image, const std::vector<fs::path>& old) {
    progress_.phase("checking every byte");
    verify(file, keys_, options_.source);
    for (const fs::path& other : old) {
      if (shared_ == 0) shared_ = share_with(other, file.path());
    }
    builder::put_in_place(file.path(), image);
    progress_.finish();
  }

  const PullOptions& options_;
  std::vector<fs::path> keys_;
  builder::Progress progress_;
  std::uint64_t shared_ = 0;
  std::function<void(const std::string&)> note_ = [this](const std::string& text) {
    progress_.note(text);
  };
  bool is_waiting_ = false;
};

}  // namespace

std::string pull_image(const PullOptions& options) {
  if (is_reference_to_url(options.source)) {
    if (!is_digest(options.digest) || options.output.empty()) {
      throw Error(ExitCode::kUsage,
                  "a URL says nothing about what has to come: give --digest sha256:... (as "
                  "pyram-image info shows it) and -o FILE");
    }
    return Pull(options).from_url();
  }
  const auto reference = parse_image_reference(options.source);
  if (!reference) {
    throw Error(ExitCode::kUsage, "cannot pull " + quote(options.source) +
                                      ": it has to be HOST/REPOSITORY:TAG, such as "
                                      "registry.example.org/team/site:1, or a URL");
  }
  if (!options.digest.empty()) {
    throw Error(ExitCode::kUsage, "--digest is for URLs; write HOST/REPOSITORY@sha256:...");
  }
  return Pull(options).from_registry(*reference);
}

}  // namespace pyram::registry
