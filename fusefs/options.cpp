#include "fusefs/options.h"

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "support/error.h"

namespace pyram {
namespace {

Error usage(const std::string& what) {
  return {ExitCode::kUsage, what + "; see pyram-mount --help"};
}

std::uint64_t number_of(std::string_view name, std::string_view value) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.begin(), value.end(), number);
  if (value.empty() || error != std::errc() || end != value.end()) {
    throw usage("-o " + std::string(name) + " needs a number, not " + quote(value));
  }
  return number;
}

std::uint32_t id_of(std::string_view name, std::string_view value) {
  const std::uint64_t number = number_of(name, value);
  // The last one means "no such owner" to the system.
  if (number >= 0xffffffffU) throw usage("-o " + std::string(name) + " is too large");
  return static_cast<std::uint32_t>(number);
}

// What changes nothing for a read-only image, what we do anyway, and what fstab has for others.
bool changes_nothing(std::string_view name) {
  constexpr std::array<std::string_view, 38> kIgnored = {
      "ro",           "rw",          "defaults",     "default_permissions",
      "nosuid",       "nodev",       "suid",         "dev",
      "exec",         "async",       "sync",         "dirsync",
      "atime",        "noatime",     "diratime",     "nodiratime",
      "relatime",     "norelatime",  "strictatime",  "lazytime",
      "auto",         "noauto",      "user",         "nouser",
      "users",        "owner",       "group",        "_netdev",
      "nofail",       "loop",        "clone_fd",     "splice_read",
      "splice_write", "splice_move", "kernel_cache", "auto_cache",
      "auto_unmount", "remount"};
  for (const std::string_view ignored : kIgnored) {
    if (name == ignored) return true;
  }
  for (const std::string_view prefix : {"x-", "X-", "comment", "fsname", "subtype", "max_threads",
                                        "max_idle_threads", "max_read", "max_readahead"}) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

void apply_mount_option(Options& options, std::string_view text) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : text.substr(equals + 1);
  if (name == "offset") {
    options.offset = number_of(name, value);
  } else if (name == "timeout") {
    options.idle_timeout = number_of(name, value);
  } else if (name == "uid") {
    options.uid = id_of(name, value);
  } else if (name == "gid") {
    options.gid = id_of(name, value);
  } else if (name == "notify_pipe") {
    options.notify_pipe = value;
  } else if (name == "allow_other") {
    options.allow_other = true;
  } else if (name == "allow_root") {
    options.allow_root = true;
  } else if (name == "nonempty") {
    options.nonempty = true;
  } else if (name == "noexec") {
    options.no_exec = true;
  } else if (name == "debug") {
    options.debug = true;
  } else if (name == "nosupervisor") {
    options.supervise = false;
  } else if (name == "noconfine") {
    options.confine = false;
  } else if (name == "noresend") {
    options.can_resend = false;
  } else if (!changes_nothing(name)) {
    throw usage("unknown mount option " + quote(text));
  }
}

void apply_mount_options(Options& options, const std::vector<std::string>& lists) {
  for (std::string_view list : lists) {
    while (!list.empty()) {
      const std::size_t comma = std::min(list.find(','), list.size());
      if (comma > 0) apply_mount_option(options, list.substr(0, comma));
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
  }
  if (options.allow_other && options.allow_root) {
    throw usage("-o allow_other and -o allow_root exclude each other");
  }
}

// mount(8) calls mount.TYPE with IMAGE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE], where -s
// and -f mean something else than ours. Returns false for -f: check only, mount nothing.
bool parse_helper(CLI::App& app, std::vector<std::string>& words) {
  std::vector<std::string> kept;
  bool pretend = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "-N" || word == "-t") {
      ++i;
    } else if (word.size() > 1 && word[0] == '-' && word[1] != '-' && word[1] != 'o' &&
               word.find_first_not_of("sfnv", 1) == std::string::npos) {
      pretend = pretend || word.find('f') != std::string::npos;
    } else {
      kept.push_back(word);
    }
  }
  words = {kept.rbegin(), kept.rend()};  // CLI11 takes its words from the back.
  app.parse(words);
  return !pretend;
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  Options options;
  CLI::App app(
      "Mounts a SquashFS image on a folder and serves it.\n"
      "Exit codes: 0 done, 1 failed, 2 usage, 3 bad image, 4 bad mount point, 5 FUSE not usable,\n"
      "9 not what was packed.",
      "pyram-mount");
  app.set_version_flag("-V,--version", std::string("pyram-mount ") + PYRAM_VERSION);

  std::vector<std::string> places;
  std::vector<std::string> mount_options;
  bool single_threaded = false;
  bool unmount = false;
  bool status = false;
  bool extract = false;
  bool reload = false;
  bool verify = false;
  std::string worker;
  app.add_option("places", places,
                 "IMAGE MOUNTPOINT (only MOUNTPOINT with --status, --unmount, --reload)")
      ->required();
  app.add_option("-o", mount_options,
                 "Mount options: offset=BYTES, timeout=SECONDS (as --idle-timeout), uid=N, gid=N, "
                 "notify_pipe=PATH, allow_other, allow_root, nonempty, noexec, nosupervisor, "
                 "noconfine, noresend")
      ->type_name("OPT,...")
      ->allow_extra_args(false);
  app.add_flag("-f,--foreground", options.foreground, "Stay in the foreground");
  app.add_flag("-d,--debug", options.debug, "Show every request; implies -f and -o nosupervisor");
  app.add_flag("-s,--single-thread", single_threaded, "One thread: as --threads 1");
  app.add_option("--threads", options.threads, "Threads that answer requests")
      ->check(CLI::Range(1, 64));
  app.add_option("--cache-size", options.cache_size,
                 "Most bytes of decompressed blocks the daemon holds (4M, 512K, ...)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(std::uint64_t{1} << 16, std::uint64_t{1} << 40));
  app.add_option("--prefetch", options.prefetch, "What to read ahead: none, hot, all")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Prefetch>{
          {"none", Prefetch::kNone}, {"hot", Prefetch::kHot}, {"all", Prefetch::kAll}}));
  app.add_flag("--verify", verify,
               "Check all that is read of the image against its Merkle tree before it is used");
  app.add_option("--idle-timeout", options.idle_timeout,
                 "Unmount after so many seconds without use; 0: never");
  app.add_option("--record", options.record,
                 "Write what is read to this file, as lines of a hot list; slow");
  app.add_option("--ready-fd", options.ready_fd,
                 "Write '+' to this descriptor once the mount serves, or '-' and the error")
      ->check(CLI::Range(0, 1 << 20));
  app.add_flag("--status", status, "Show what the daemon of a mount has done");
  app.add_option("--format", options.status_format, "Of --status: text, json, prometheus")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, StatusFormat>{{"text", StatusFormat::kText},
                                              {"json", StatusFormat::kJson},
                                              {"prometheus", StatusFormat::kPrometheus}}));
  app.add_flag("--unmount", unmount, "Unmount, unless it is in use");
  app.add_flag("--reload", reload,
               "Have the program that is on disk now go on serving a mount, after an upgrade");
  // How a supervisor calls a worker. Not for people, so not in the help.
  app.add_option("--worker", worker)->group("");
  app.add_flag("--extract", extract,
               "Mount nothing: unpack IMAGE as the new folder MOUNTPOINT, in the foreground");

  try {
    const std::filesystem::path self = argc > 0 ? argv[0] : "";
    if (self.filename().native().starts_with("mount.")) {
      std::vector<std::string> words(argv + 1, argv + argc);
      if (!parse_helper(app, words)) return std::nullopt;
    } else {
      app.parse(argc, argv);
    }
  } catch (const CLI::Success& success) {  // --help or --version
    app.exit(success);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    std::string what = error.what();
    for (char& c : what) {
      if (c == '\n') c = ' ';
    }
    throw usage(what);
  }

  if (status + unmount + extract + reload > 1) {
    throw usage("--status, --unmount, --reload and --extract exclude each other");
  }
  options.action = status    ? Action::kStatus
                   : unmount ? Action::kUnmount
                   : extract ? Action::kExtract
                   : reload  ? Action::kReload
                             : Action::kMount;
  const std::size_t expected = status || unmount || reload ? 1 : 2;
  if (places.size() != expected) {
    throw usage(expected == 2 ? "an image and a mount point are needed"
                              : "exactly one mount point is needed");
  }
  if (expected == 2) options.image = places.front();
  options.mount_point = places.back();
  if (single_threaded) options.threads = 1;
  if (verify) options.verify = Image::Verify::kYes;
  apply_mount_options(options, mount_options);
  if (options.debug) {
    options.foreground = true;
    options.supervise = false;
  }
  if (!worker.empty()) {
    if (options.action != Action::kMount || worker != kWorkerProtocol) {
      throw usage("--worker is for pyram-mount's own use");
    }
    options.action = Action::kWork;
  }
  return options;
}

}  // namespace pyram
