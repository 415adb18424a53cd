// The `debian:SUITE` source: apt in a private root.
//
// apt's settings come from a file of our own that APT_CONFIG names. It is read first and moves
// every directory that apt knows, so that neither the machine's settings nor its package lists nor
// its list of installed packages take part.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "image-builder/digest.h"
#include "image-builder/sources/source.h"
#include "image-builder/tree/licences.h"
#include "support/error.h"
#include "support/io.h"
#include "support/process.h"
#include "support/unique_fd.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

constexpr char kKeyring[] = "/usr/share/keyrings/debian-archive-keyring.gpg";
constexpr char kDefaultMirror[] = "http://deb.debian.org/debian";

// What every image is made of. base-files brings the texts of the licences that copyright files
// refer to; libjs-jquery is what the links in Django's admin lead to; pypy3-venv brings ensurepip
// and, through its dependencies, pip as a wheel; libstdc++6 and libatomic1 have what wheels expect.
constexpr const char* kPackages[] = {"pypy3",           "pypy3-venv",       "python3-django",
                                     "python3-pymysql", "python3-sqlparse", "python3-asgiref",
                                     "tzdata",          "base-files",       "libjs-jquery",
                                     "libstdc++6",      "libatomic1"};

// Packages that apt is told are installed: what these depend on for CPython's sake, for their
// installation scripts, which are not run here, or for ciphers of the past. Certificates are the
// machine's business: they have to change more often than an image.
constexpr const char* kAssumed[] = {"python3",
                                    "python3-minimal",
                                    "libpython3-stdlib",
                                    "dpkg",
                                    "debconf",
                                    "ca-certificates",
                                    "media-types",
                                    "netbase",
                                    "install-info",
                                    "mawk",
                                    "openssl-provider-legacy"};

struct Download {
  std::string url;
  std::string file;
  std::string sha256;
};

bool has_security_suite(const std::string& suite) {
  static const std::set<std::string> without = {"sid", "unstable", "experimental", "rc-buggy"};
  return !without.contains(suite);
}

void check_suite(const std::string& suite) {
  static const std::regex plain("[a-z][a-z0-9.-]*");
  if (!std::regex_match(suite, plain)) {
    throw Error(ExitCode::kUsage, quote(suite) +
                                      " is no name of a Debian suite; write for example "
                                      "debian:trixie");
  }
}

// The first line of apt's that says "E: ": the first thing that went wrong. Its last line is often
// only advice.
std::string apt_says(const Outcome& outcome) {
  std::istringstream lines(outcome.errors);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("E: ")) return line.substr(3);
  }
  return outcome.last_line();
}

// apt, moved into a private root.
class PrivateApt {
 public:
  PrivateApt(fs::path root, const fs::path& cache, const DebianRequest& request)
      : root_(std::move(root)), lists_(cache / "lists"), archives_(cache / "archives") {
    for (const char* directory : {"etc", "state", "empty/partial"}) {
      fs::create_directories(root_ / directory);
    }
    fs::create_directories(lists_ / "partial");
    fs::create_directories(archives_ / "partial");
    architecture_ = request.architecture.empty() ? machine_architecture() : request.architecture;
    if (!fs::exists(kKeyring)) {
      throw Error(ExitCode::kMissingTool, std::string("cannot verify Debian's packages: ") +
                                              kKeyring +
                                              " is missing; install debian-archive-keyring");
    }
    write_sources(request);
    write_settings();
    write_file(root_ / "status", "");
  }

  void update() {
    const Outcome outcome =
        run(apt({"apt-get", "-q", "-y", "-o", "APT::Update::Error-Mode=any", "update"}));
    if (!outcome.ok()) throw failed("fetch the list of packages", outcome);
  }

  // Has apt believe that `names` are installed, as versions that the suite has.
  void assume_installed(const std::vector<std::string>& names) {
    std::string status;
    for (const std::string& name : names) {
      std::string version = "99";
      const Outcome outcome = run(apt({"apt-cache", "show", "--no-all-versions", name}));
      if (const std::size_t at = outcome.output.find("\nVersion: "); at != std::string::npos) {
        version = outcome.output.substr(at + 10, outcome.output.find('\n', at + 1) - at - 10);
      }
      // A little newer than the suite's, or apt would "upgrade" to the one that has dependencies.
      version += "+assumed";
      status += "Package: " + name +
                "\nStatus: install ok installed\nArchitecture: " + architecture_ +
                "\nMulti-Arch: allowed\nVersion: " + version +
                "\nMaintainer: nobody\nDescription: assumed\n\n";
    }
    write_file(root_ / "status", status);
  }

  // What apt would fetch for `packages`: all of it, whatever lies in the cache already.
  [[nodiscard]] std::vector<Download> resolve(const std::vector<std::string>& packages) const {
    std::vector<std::string> words = {"apt-get",
                                      "-q",
                                      "-y",
                                      "-o",
                                      "Dir::Cache::archives=" + (root_ / "empty").native(),
                                      "-o",
                                      "Acquire::ForceHash=SHA256",
                                      "--print-uris",
                                      "install"};
    words.insert(words.end(), packages.begin(), packages.end());
    const Outcome outcome = run(apt(std::move(words)));
    if (!outcome.ok()) throw failed("find the packages", outcome);
    static const std::regex form("'([^']+)' (\\S+) [0-9]+ SHA256:([0-9a-f]{64})");
    std::vector<Download> result;
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
      std::smatch match;
      if (std::regex_search(line, match, form)) result.push_back({match[1], match[2], match[3]});
    }
    if (result.empty()) {
      throw Error(ExitCode::kBadSource, "cannot find the packages: apt-get names none to fetch");
    }
    std::sort(result.begin(), result.end(),
              [](const Download& a, const Download& b) { return a.file < b.file; });
    return result;
  }

  // Has all of `downloads` in archives(), each with the digest that the signed list promises.
  void fetch(const std::vector<std::string>& packages, const std::vector<Download>& downloads) {
    // apt believes what lies in its cache when the size is right; we don't.
    for (const Download& download : downloads) {
      const fs::path file = archives_ / download.file;
      if (fs::exists(file) && sha256_of_file(file) != download.sha256) fs::remove(file);
    }
    std::vector<std::string> words = {"apt-get", "-q", "-y", "--download-only", "install"};
    words.insert(words.end(), packages.begin(), packages.end());
    const Outcome outcome = run(apt(std::move(words)));
    if (!outcome.ok()) throw failed("fetch the packages", outcome);
    for (const Download& download : downloads) {
      const fs::path file = archives_ / download.file;
      if (!fs::exists(file) || sha256_of_file(file) != download.sha256) {
        throw Error(ExitCode::kBadSource, "the package " + quote(download.url) +
                                              " is not what Debian's signed list promises; try "
                                              "again, or name another --mirror");
      }
    }
  }

  [[nodiscard]] const fs::path& archives() const { return archives_; }
  // Whether the suite's security suite is looked at too.
  [[nodiscard]] bool knows_security() const { return knows_security_; }

  // Of which of these apt would take another version, where they are installed.
  [[nodiscard]] std::vector<NewerPackage> newer_than(const std::vector<Package>& packages) const {
    std::string status;
    std::vector<std::string> words = {"apt-cache", "policy"};
    for (const Package& package : packages) {
      status += "Package: " + package.name +
                "\nStatus: install ok installed\nArchitecture: " + architecture_ +
                "\nVersion: " + package.version +
                "\nMaintainer: nobody\nDescription: of the image\n\n";
      words.push_back(package.name);
    }
    write_file(root_ / "status", status);
    const Outcome outcome = run(apt(std::move(words)));
    if (!outcome.ok()) throw failed("compare the packages", outcome);
    return parse_policy(outcome.output);
  }

 private:
  [[nodiscard]] Command apt(std::vector<std::string> words) const {
    Command command;
    command.arguments = std::move(words);
    command.environment.emplace();
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string_view text(*entry);
      if (text.starts_with("LC_") || text.starts_with("LANG") || text.starts_with("APT_")) continue;
      command.environment->emplace_back(text);
    }
    command.environment->push_back("LC_ALL=C.UTF-8");
    command.environment->push_back("DEBIAN_FRONTEND=noninteractive");
    command.environment->push_back("APT_CONFIG=" + (root_ / "apt.conf").native());
    return command;
  }

  static std::string machine_architecture() {
    std::string name = run_or_throw({{"dpkg", "--print-architecture"}, {}, {}},
                                    ExitCode::kMissingTool, "ask dpkg for the architecture");
    name.erase(std::min(name.find('\n'), name.size()));
    return name;
  }

  static Error failed(std::string_view tried, const Outcome& outcome) {
    const std::string said = apt_says(outcome);
    const bool full = outcome.errors.find("No space left") != std::string::npos ||
                      outcome.errors.find("enough free space") != std::string::npos;
    return {full ? ExitCode::kCannotWrite : ExitCode::kBadSource,
            "cannot " + std::string(tried) + ": " + said +
                (full ? "; free some space or name another --work-dir"
                      : "; check the suite, the network and --mirror")};
  }

  // What `apt-cache policy` prints: "NAME:", "  Installed: X", "  Candidate: Y", and of each
  // version a line "     VERSION PRIORITY" (or " *** VERSION ...") with those of its places below
  // it.
  static std::vector<NewerPackage> parse_policy(const std::string& text) {
    std::vector<NewerPackage> newer;
    NewerPackage package;
    std::string listed;
    const auto take = [&] {
      if (!package.newer.empty() && package.newer != "(none)" && package.newer != package.version) {
        newer.push_back(package);
      }
    };
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string first;
      std::string second;
      words >> first >> second;
      if (!line.starts_with(' ')) {
        take();
        package = {};
        package.name = line.substr(0, line.find(':'));
      } else if (first == "Installed:") {
        package.version = second;
      } else if (first == "Candidate:") {
        package.newer = second;
      } else if (line.starts_with(" *** ") || line.starts_with("     ")) {
        if (!line.starts_with("        ")) {
          listed = first == "***" ? second : first;
        } else if (listed == package.newer && line.find("-security/") != std::string::npos) {
          package.security = true;
        }
      }
    }
    take();
    return newer;
  }

  void write_sources(const DebianRequest& request) {
    std::string mirror = request.mirror;
    std::string security;
    if (mirror.empty()) {
      mirror = machine_mirror("/debian").value_or(kDefaultMirror);
      security = machine_mirror("/debian-security").value_or("");
    }
    while (mirror.ends_with('/')) mirror.pop_back();
    if (security.empty() && mirror.ends_with("/debian")) security = mirror + "-security";
    const std::string options =
        std::string("[signed-by=") + kKeyring + " arch=" + architecture_ + "] ";
    std::string text = "deb " + options + mirror + " " + request.suite + " main\n";
    if (!security.empty() && has_security_suite(request.suite)) {
      text += "deb " + options + security + " " + request.suite + "-security main\n";
      knows_security_ = true;
    }
    write_file(root_ / "etc/sources.list", text);
  }

  void write_settings() const {
    const auto quoted = [](const fs::path& path) { return "\"" + path.native() + "\""; };
    std::ostringstream text;
    text << "Dir " << quoted(root_) << ";\n"
         << "Dir::State " << quoted(root_ / "state") << ";\n"
         << "Dir::State::status " << quoted(root_ / "status") << ";\n"
         << "Dir::State::lists " << quoted(lists_) << ";\n"
         << "Dir::Cache " << quoted(root_) << ";\n"
         << "Dir::Cache::archives " << quoted(archives_) << ";\n"
         << "Dir::Cache::pkgcache " << quoted(root_ / "pkgcache.bin") << ";\n"
         << "Dir::Cache::srcpkgcache \"\";\n"
         << "Dir::Log " << quoted(root_) << ";\n"
         << "Dir::Etc " << quoted(root_ / "etc") << ";\n"
         << "Dir::Etc::sourcelist " << quoted(root_ / "etc/sources.list") << ";\n"
         << "Dir::Etc::sourceparts \"/dev/null\";\n"
         << "Dir::Etc::main \"/dev/null\";\n"
         << "Dir::Etc::parts \"/dev/null\";\n"
         << "Dir::Etc::preferences \"/dev/null\";\n"
         << "Dir::Etc::preferencesparts \"/dev/null\";\n"
         << "Dir::Etc::trusted \"/dev/null\";\n"
         << "Dir::Etc::trustedparts \"/dev/null\";\n"
         // Our directories are not for everybody, so apt's own user could not read them.
         << "APT::Sandbox::User \"root\";\n"
         << "APT::Architecture \"" << architecture_ << "\";\n"
         << "APT::Architectures { \"" << architecture_ << "\"; };\n"
         << "APT::Install-Recommends \"false\";\n"
         << "Acquire::Languages \"none\";\n"
         << "Acquire::Retries \"2\";\n"
         << machine_network_settings();
    write_file(root_ / "apt.conf", text.str());
  }

  // The machine's proxy, and what its administrator decided about clocks and addresses.
  static std::string machine_network_settings() {
    static const std::regex wanted(
        "Acquire::(https?|ftp|ForceIPv4|ForceIPv6|Check-Date|Check-Valid-Until|Max-FutureTime)"
        "(::\\S*)? .*");
    std::string result;
    if (!find_program("apt-config")) return result;
    std::istringstream lines(run({{"apt-config", "dump"}, {}, {}}).output);
    for (std::string line; std::getline(lines, line);) {
      if (std::regex_match(line, wanted)) result += line + "\n";
    }
    return result;
  }

  // The mirror of the machine's own sources whose path ends with `suffix`.
  static std::optional<std::string> machine_mirror(std::string_view suffix) {
    if (!find_program("apt-get")) return std::nullopt;
    const Outcome outcome = run(
        {{"apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"}, {}, {}});
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
      while (line.ends_with('/')) line.pop_back();
      const bool fetched = line.starts_with("http://") || line.starts_with("https://");
      if (fetched && line.ends_with(suffix)) return line;
    }
    return std::nullopt;
  }

  fs::path root_;
  fs::path lists_;
  fs::path archives_;
  std::string architecture_;
  bool knows_security_ = false;
};

fs::path make_cache(const DebianRequest& request, const fs::path& work) {
  // apt removes the lists of other architectures, so each has a cache of its own.
  const std::string name =
      request.suite + (request.architecture.empty() ? "" : "-" + request.architecture);
  fs::path cache = request.cache.empty() ? work / "cache" : request.cache / name;
  try {
    fs::create_directories(cache);
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::kCannotWrite, "cannot make the cache directory " + quote(cache.native()) +
                                            ": " + error.code().message() +
                                            "; name another with --cache-dir");
  }
  return cache;
}

// Two builds at once may share a cache: the second waits.
UniqueFd lock_cache(const fs::path& cache) {
  const fs::path name = cache / "lock";
  UniqueFd fd(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd || ::flock(fd.get(), LOCK_EX) != 0) {
    throw system_error(ExitCode::kCannotWrite, errno, "lock " + quote(name.native()),
                       "name another directory with --cache-dir");
  }
  return fd;
}

// Where a file of a package belongs: everything below usr/, as merged-/usr systems have it.
fs::path merged(const fs::path& relative) {
  static const std::set<std::string> moved = {"bin", "sbin", "lib", "lib64"};
  return moved.contains(relative.begin()->native()) ? "usr" / relative : relative;
}

// Moves one unpacked package into the common tree.
void merge(const fs::path& unpacked, const std::string& package, SourceTree& source) {
  std::vector<fs::path> entries;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(unpacked)) {
    entries.push_back(entry.path());
  }
  std::sort(entries.begin(), entries.end());
  for (const fs::path& entry : entries) {
    const fs::path unmerged = entry.lexically_relative(unpacked);
    const fs::path relative = merged(unmerged);
    // base-files brings the links by which /lib is /usr/lib.
    if (relative != unmerged && fs::is_symlink(entry) && !unmerged.has_parent_path()) continue;
    const fs::path target = source.root / relative;
    if (fs::is_directory(fs::symlink_status(entry))) {
      if (!fs::exists(fs::symlink_status(target))) fs::create_directories(target);
      continue;
    }
    const auto [owner, is_new] = source.owners.emplace(relative.native(), package);
    if (!is_new) {
      throw Error(ExitCode::kBadSource, "the packages " + quote(owner->second) + " and " +
                                            quote(package) + " both bring " +
                                            quote(relative.native()));
    }
    fs::create_directories(target.parent_path());
    fs::rename(entry, target);
  }
}

Package unpack(const Download& download, const fs::path& file, const fs::path& work,
               SourceTree& source) {
  const auto unreadable = [&](const Outcome& outcome) {
    const bool full = outcome.errors.find("No space left") != std::string::npos;
    return Error(full ? ExitCode::kCannotWrite : ExitCode::kBadSource,
                 "cannot unpack " + quote(file.native()) + ": " + outcome.last_line());
  };
  const Outcome fields =
      run({{"dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n", file.native()}, {}, {}});
  if (!fields.ok()) throw unreadable(fields);
  std::istringstream lines(fields.output);
  Package package;
  std::getline(lines, package.name);
  std::getline(lines, package.version);
  package.kind = "deb";
  package.source = download.url;
  package.sha256 = download.sha256;
  const fs::path directory = work / "package";
  remove_all(directory);
  const Outcome outcome =
      run({{"dpkg-deb", "--extract", file.native(), directory.native()}, {}, {}});
  if (!outcome.ok()) throw unreadable(outcome);
  merge(directory, package.name, source);
  remove_all(directory);
  return package;
}

// Every directory with a shared library in it is one in which the loader may find one.
std::vector<fs::path> multiarch_directories(const fs::path& prefix) {
  std::vector<fs::path> result;
  for (const char* name : {"lib", "lib64"}) {
    if (!fs::exists(prefix / name)) continue;
    for (const fs::directory_entry& entry : fs::directory_iterator(prefix / name)) {
      const bool multiarch = entry.is_directory() &&
                             entry.path().filename().native().find("-linux-") != std::string::npos;
      if (multiarch) result.push_back(entry.path());
    }
    result.push_back(prefix / name);
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace

SourceTree fetch_debian(const DebianRequest& request, const fs::path& work, Progress& progress) {
  check_suite(request.suite);
  const fs::path cache = make_cache(request, work);
  const UniqueFd lock = lock_cache(cache);
  PrivateApt apt(work / "apt", cache, request);
  progress.phase("fetching the list of packages of " + request.suite);
  apt.update();
  apt.assume_installed({std::begin(kAssumed), std::end(kAssumed)});

  std::vector<std::string> names(std::begin(kPackages), std::end(kPackages));
  names.insert(names.end(), request.packages.begin(), request.packages.end());
  const std::vector<Download> downloads = apt.resolve(names);
  progress.phase("fetching " + std::to_string(downloads.size()) + " packages");
  apt.fetch(names, downloads);

  progress.phase("unpacking " + std::to_string(downloads.size()) + " packages");
  SourceTree source;
  source.root = work / "source";
  source.prefix = source.root / "usr";
  source.movable = true;
  source.description = "debian:" + request.suite;
  source.named = request.packages;
  fs::create_directories(source.prefix);
  for (std::size_t i = 0; i < downloads.size(); ++i) {
    progress.step(static_cast<double>(i) / static_cast<double>(downloads.size()));
    source.packages.push_back(
        unpack(downloads[i], apt.archives() / downloads[i].file, work, source));
  }
  for (Package& package : source.packages) {
    package.licences = licences_of(source.prefix / "share/doc" / package.name / "copyright");
  }
  source.library_directories = multiarch_directories(source.prefix);
  return source;
}

std::vector<NewerPackage> newer_packages(const DebianRequest& request,
                                         const std::vector<Package>& packages,
                                         const fs::path& work) {
  check_suite(request.suite);
  const fs::path cache = make_cache(request, work);
  const UniqueFd lock = lock_cache(cache);
  PrivateApt apt(work / "apt", cache, request);
  if (has_security_suite(request.suite) && !apt.knows_security()) {
    throw Error(ExitCode::kBadSource, "cannot tell what is outdated: no mirror of " +
                                          request.suite +
                                          "-security is known; give a --mirror "
                                          "whose path ends in /debian");
  }
  apt.update();
  std::vector<NewerPackage> newer = apt.newer_than(packages);
  std::ranges::sort(newer, {}, &NewerPackage::name);
  return newer;
}

}  // namespace pyram::builder
