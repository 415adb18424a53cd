#include "fusefs/cli/options.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "support/error.h"
#include "support/io.h"
#include "support/nearest.h"
#include "support/text.h"

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
  constexpr std::array<std::string_view, 34> kIgnored = {
      "ro",           "rw",          "defaults",     "default_permissions",
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

[[gnu::cold]] Error unknown_mount_option(std::string_view text) {
  constexpr std::array<std::string_view, 17> kNames = {
      "offset",      "subdir",      "uid",          "gid",       "timeout", "fetch_timeout",
      "notify_pipe", "allow_other", "allow_root",   "nonempty",  "noexec",  "dev",
      "suid",        "debug",       "nosupervisor", "noconfine", "noresend"};
  return usage("unknown mount option " + quote(text) +
               suggestion(text.substr(0, text.find('=')), kNames));
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
  } else if (name == "fetch_timeout") {
    options.fetch_timeout = number_of(name, value);
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
  } else if (name == "dev" || name == "nodev") {
    options.allow_devices = name == "dev";
  } else if (name == "suid" || name == "nosuid") {
    options.allow_set_id = name == "suid";
  } else if (name == "subdir") {
    options.subdirectory = value;
  } else if (name == "debug") {
    options.debug = true;
  } else if (name == "nosupervisor") {
    options.supervise = false;
  } else if (name == "noconfine") {
    options.confine = false;
  } else if (name == "noresend") {
    options.can_resend = false;
  } else if (!changes_nothing(name)) {
    throw unknown_mount_option(text);
  }
}

void apply_mount_options(Options& options, const std::vector<std::string_view>& lists) {
  for (std::string_view list : lists) {
    while (!list.empty()) {
      const std::string_view option = take_part(list, ',');
      if (!option.empty()) apply_mount_option(options, option);
    }
  }
  if (options.allow_other && options.allow_root) {
    throw usage("-o allow_other and -o allow_root exclude each other");
  }
  if ((options.allow_devices || options.allow_set_id) && ::geteuid() != 0) {
    throw usage("-o dev and -o suid are for root only; leave them out");
  }
}

// A command line, taken apart.
struct Parsed {
  Options options;
  std::vector<std::string_view> places;
  std::vector<std::string_view> mount_options;
  std::optional<Action> action;
  bool single_threaded = false;
  bool all_of_status = false;
  bool is_worker = false;
  bool wants_help = false;
  bool wants_version = false;

  void set_action(Action wanted) {
    if (action && *action != wanted) {
      throw usage("--status, --unmount, --reload and --extract exclude each other");
    }
    action = wanted;
  }
};

std::uint64_t number_in(std::string_view option, std::string_view value, std::uint64_t least,
                        std::uint64_t most) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < least ||
      number > most) {
    throw usage(std::string(option) + " needs a number from " + std::to_string(least) + " to " +
                std::to_string(most) + ", not " + quote(value));
  }
  return number;
}

// A number of bytes, perhaps with a unit: K, KB and KiB are 1024 of them, in small letters too.
std::size_t size_of(std::string_view option, std::string_view value) {
  constexpr std::uint64_t kLeast = std::uint64_t{1} << 16;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  constexpr std::string_view kUnits = "bkmgtpe";
  const auto lower = [](char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c | 0x20 : c); };
  const std::size_t digits = std::min(value.find_first_not_of("0123456789"), value.size());
  std::string unit(value.substr(digits));
  std::ranges::transform(unit, unit.begin(), lower);
  std::size_t power = 0;
  if (!unit.empty()) {
    power = kUnits.find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    const bool known =
        power != std::string_view::npos &&
        (rest.empty() || (power > 0 && (rest == "b" || rest == "i" || rest == "ib")));
    if (!known || digits == 0) {
      throw usage(std::string(option) + " needs a number, perhaps with K, M or G, not " +
                  quote(value));
    }
  }
  const std::uint64_t number =
      number_in(option, value.substr(0, digits), 0, std::numeric_limits<std::uint64_t>::max());
  const std::size_t shift = 10 * power;
  if (number > kMost >> shift || number << shift < kLeast) {
    throw usage(std::string(option) + ": " + quote(value) + " is not in the range of 64K to 1T");
  }
  return number << shift;
}

template <typename Value>
struct Choice {
  std::string_view name;
  Value value;
};

template <typename Value>
Value chosen(std::string_view option, std::string_view name,
             std::span<const Choice<Value>> choices) {
  std::string known;
  for (const Choice<Value>& choice : choices) {
    if (choice.name == name) return choice.value;
    known.append(known.empty() ? "" : ", ").append(choice.name);
  }
  throw usage(std::string(option) + " is one of " + known + ", not " + quote(name));
}

constexpr std::array kPrefetches{Choice<Prefetch>{"none", Prefetch::kNone},
                                 Choice<Prefetch>{"hot", Prefetch::kHot},
                                 Choice<Prefetch>{"all", Prefetch::kAll}};
constexpr std::array kFormats{Choice<StatusFormat>{"text", StatusFormat::kText},
                              Choice<StatusFormat>{"json", StatusFormat::kJson},
                              Choice<StatusFormat>{"prometheus", StatusFormat::kPrometheus}};

// One option: what the parser and the help text know of it.
struct Option {
  char letter;             // 0: it has none.
  std::string_view name;   // With its dashes; empty: it has a letter only.
  std::string_view value;  // What the help calls its value; empty: it takes none.
  std::string_view help;   // Empty: not for people, so not in the help.
  // `name` is what the option was called on the command line.
  void (*apply)(Parsed& parsed, std::string_view name, std::string_view value);
};

using Text = std::string_view;

constexpr int kMostDescriptors = 1 << 20;
constexpr unsigned kMostThreads = 64;

constexpr std::array<Option, 22> kOptions{{
    {'h', "--help", "", "Print this help and exit",
     [](Parsed& parsed, Text, Text) { parsed.wants_help = true; }},
    {'V', "--version", "", "Print the version and exit",
     [](Parsed& parsed, Text, Text) { parsed.wants_version = true; }},
    {'o', "", "OPT,...", "Mount options, see below",
     [](Parsed& parsed, Text, Text value) { parsed.mount_options.push_back(value); }},
    {'f', "--foreground", "", "Stay in the foreground",
     [](Parsed& parsed, Text, Text) { parsed.options.foreground = true; }},
    {'d', "--debug", "", "Show every request; implies -f and -o nosupervisor",
     [](Parsed& parsed, Text, Text) { parsed.options.debug = true; }},
    {'s', "--single-thread", "", "One thread: as --threads 1",
     [](Parsed& parsed, Text, Text) { parsed.single_threaded = true; }},
    {0, "--threads", "N", "Number of threads that answer requests (1 to 64)",
     [](Parsed& parsed, Text name, Text value) {
       parsed.options.threads = static_cast<unsigned>(number_in(name, value, 1, kMostThreads));
     }},
    {0, "--cache-size", "SIZE", "Maximum size of the cache of decompressed blocks (4M, 512K, ...)",
     [](Parsed& parsed, Text name, Text value) {
       parsed.options.cache_size = size_of(name, value);
     }},
    {0, "--prefetch", "WHAT", "What to read ahead: none, hot (what starts read), all",
     [](Parsed& parsed, Text name, Text value) {
       parsed.options.prefetch = chosen<Prefetch>(name, value, kPrefetches);
     }},
    {0, "--verify", "", "Check everything that is read from the image against its Merkle tree",
     [](Parsed& parsed, Text, Text) { parsed.options.verify = Image::Verify::kYes; }},
    {0, "--block", "",
     "For an image that is being fetched: reads wait for their bytes without limit",
     [](Parsed& parsed, Text, Text) { parsed.options.fetch_timeout = 0; }},
    {0, "--idle-timeout", "SECONDS", "Unmount after this many seconds without use; 0: never",
     [](Parsed& parsed, Text name, Text value) {
       parsed.options.idle_timeout =
           number_in(name, value, 0, std::numeric_limits<std::uint64_t>::max());
     }},
    {0, "--record", "FILE", "Write a hot list of what is read to this file; slow",
     [](Parsed& parsed, Text, Text value) { parsed.options.record = value; }},
    {0, "--ready-fd", "N",
     "Write '+' to this descriptor when the mount is ready, or '-' and the error",
     [](Parsed& parsed, Text name, Text value) {
       parsed.options.ready_fd = static_cast<int>(number_in(name, value, 0, kMostDescriptors));
     }},
    {0, "--status", "", "Show the state of a mount and what its daemon has done",
     [](Parsed& parsed, Text, Text) { parsed.set_action(Action::kStatus); }},
    {0, "--all", "", "With --status: show all counters, as --format text",
     [](Parsed& parsed, Text, Text) { parsed.all_of_status = true; }},
    {0, "--format", "FORMAT", "With --status: show all counters as text, json or prometheus",
     [](Parsed& parsed, Text name, Text value) {
       parsed.options.status_format = chosen<StatusFormat>(name, value, kFormats);
     }},
    {0, "--unmount", "", "Unmount, unless the mount is in use",
     [](Parsed& parsed, Text, Text) { parsed.set_action(Action::kUnmount); }},
    {0, "--reload", "", "After an upgrade: replace a mount's daemon by the installed version",
     [](Parsed& parsed, Text, Text) { parsed.set_action(Action::kReload); }},
    // How a supervisor calls a worker.
    {0, "--worker", "PROTOCOL", "",
     [](Parsed& parsed, Text name, Text value) {
       parsed.options.is_partial = value == kPartialWorkerProtocol;
       if (value != kWorkerProtocol && !parsed.options.is_partial)
         throw usage(std::string(name) + " is for pyram-mount's own use");
       parsed.is_worker = true;
     }},
    {0, "--extract", "", "Unpack IMAGE as the new directory MOUNTPOINT instead of mounting it",
     [](Parsed& parsed, Text, Text) { parsed.set_action(Action::kExtract); }},
    {0, "--hot-first", "",
     "With --extract: return when the files that starts read are unpacked; the others follow",
     [](Parsed& parsed, Text, Text) { parsed.options.hot_first = true; }},
}};

// What the help says of what -o takes. One text: a table would be relocated at every start.
constexpr char kMountOptions[] =
    "\nMount options:\n"
    "  -o offset=BYTES             The image begins at this offset of the file\n"
    "  -o subdir=PATH              Show only this directory of the image\n"
    "  -o uid=N                    Every file belongs to this user\n"
    "  -o gid=N                    Every file belongs to this group\n"
    "  -o timeout=SECONDS          As --idle-timeout\n"
    "  -o fetch_timeout=SECONDS    For an image that is being fetched: longest time that a read "
    "waits\n"
    "                              (60); 0: as --block\n"
    "  -o notify_pipe=PATH         Write 's' to this named pipe when the mount is ready, or 'f' on "
    "failure\n"
    "  -o allow_other              Other users may read the mount\n"
    "  -o allow_root               Same as allow_other\n"
    "  -o nonempty                 The mount point need not be empty\n"
    "  -o noexec                   Programs cannot be executed from the mount\n"
    "  -o dev                      Device nodes work (root only)\n"
    "  -o suid                     Set-uid programs and file capabilities work (root only)\n"
    "  -o debug                    As --debug\n"
    "  -o nosupervisor             One process only: the mount ends if it dies\n"
    "  -o noconfine                No sandbox for the process that serves\n"
    "  -o noresend                 Requests in flight fail when the process that serves dies\n";

// Walks through the words of a command line. An option that takes a value has it in the same word
// (--name=VALUE, -oVALUE) or in the next one; letters of options that take none may share a word.
class Parser {
 public:
  explicit Parser(std::span<const std::string_view> words) : words_(words) {}

  Parsed parse() {
    while (!words_.empty()) {
      const std::string_view word = take_word();
      if (word == "--") {
        parsed_.places.insert(parsed_.places.end(), words_.begin(), words_.end());
        break;
      }
      if (word.starts_with("--")) {
        take_long(word);
      } else if (word.size() > 1 && word[0] == '-') {
        take_letters(word.substr(1));
      } else {
        parsed_.places.push_back(word);
      }
    }
    return std::move(parsed_);
  }

 private:
  std::string_view take_word() {
    const std::string_view word = words_.front();
    words_ = words_.subspan(1);
    return word;
  }

  void take_long(std::string_view word) {
    const std::size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const auto option = std::ranges::find(kOptions, name, &Option::name);
    if (option == kOptions.end()) throw unexpected(word);
    if (equals == std::string_view::npos) return apply(*option, name, {});
    if (option->value.empty()) throw usage(std::string(name) + " takes no value");
    apply(*option, name, word.substr(equals + 1));
  }

  void take_letters(std::string_view letters) {
    while (!letters.empty()) {
      const auto option = std::ranges::find(kOptions, letters[0], &Option::letter);
      const std::string name{'-', letters[0]};
      if (option == kOptions.end() || letters[0] == 0) throw unexpected(name);
      letters.remove_prefix(1);
      if (option->value.empty() || letters.empty()) {
        apply(*option, name, {});
      } else {
        apply(*option, name, std::exchange(letters, {}));
      }
    }
  }

  // `value`: nothing where it has to come from the next word.
  void apply(const Option& option, std::string_view name, std::optional<std::string_view> value) {
    if (option.value.empty()) return option.apply(parsed_, name, {});
    if (!value && words_.empty()) {
      throw usage(std::string(name) + " needs a value, " + std::string(option.value));
    }
    // Twice may be meant so of mount options only.
    bool& given = given_.at(static_cast<std::size_t>(&option - kOptions.data()));
    if (given && !option.name.empty()) throw usage(std::string(name) + " is given twice");
    given = true;
    option.apply(parsed_, name, value ? *value : take_word());
  }

  [[gnu::cold]] static Error unexpected(std::string_view word) {
    std::vector<std::string_view> names;
    for (const Option& option : kOptions) {
      if (!option.help.empty() && !option.name.empty()) names.push_back(option.name);
    }
    return usage("unknown option " + quote(word) +
                 suggestion(word.substr(0, word.find('=')), names));
  }

  std::span<const std::string_view> words_;
  Parsed parsed_;
  std::array<bool, kOptions.size()> given_{};
};

// mount(8) calls mount.TYPE with IMAGE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE], where -s
// and -f mean something else than ours. Takes these out of `words`. Returns false for -f: check
// only, mount nothing.
bool take_helper_options(std::vector<std::string_view>& words) {
  std::vector<std::string_view> kept;
  bool pretend = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word == "-N" || word == "-t") {
      ++i;
    } else if (word.size() > 1 && word[0] == '-' && word[1] != '-' && word[1] != 'o' &&
               word.find_first_not_of("sfnv", 1) == std::string_view::npos) {
      pretend = pretend || word.find('f') != std::string_view::npos;
    } else {
      kept.push_back(word);
    }
  }
  words = std::move(kept);
  return !pretend;
}

bool is_mount_helper(std::string_view program) {
  return program.substr(program.rfind('/') + 1).starts_with("mount.");
}

}  // namespace

[[gnu::cold]] std::string help_text() {
  constexpr std::size_t kHelpColumn = 30;
  std::string text =
      "Mounts a SquashFS image on a directory and serves it.\n"
      "Exit codes: 0 done, 1 failed, 2 usage, 3 bad image, 4 bad mount point, 5 FUSE not usable,\n"
      "9 integrity check failed.\n"
      "Usage: pyram-mount [OPTIONS] IMAGE MOUNTPOINT\n"
      "       pyram-mount --status|--unmount|--reload MOUNTPOINT\n"
      "\n"
      "Options:\n";
  for (const Option& option : kOptions) {
    if (option.help.empty()) continue;
    std::string line = "  ";
    if (option.letter != 0) line.append("-").push_back(option.letter);
    if (option.letter != 0 && !option.name.empty()) line.push_back(',');
    line.append(option.name);
    if (!option.value.empty()) line.append(" ").append(option.value);
    line.resize(std::max(line.size() + 1, kHelpColumn), ' ');
    text.append(line).append(option.help).push_back('\n');
  }
  text += kMountOptions;
  return text;
}

[[gnu::cold]] std::optional<int> descriptor_named_by(std::string_view path) {
  for (const std::string_view directory : {"/proc/self/fd/", "/dev/fd/"}) {
    if (!path.starts_with(directory)) continue;
    const std::string_view text = path.substr(directory.size());
    int number = 0;
    const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
    if (error == std::errc() && end == text.end() && number >= 0) return number;
  }
  return std::nullopt;
}

std::optional<Options> parse_options(int argc, const char* const* argv) {
  const std::span all(argv, static_cast<std::size_t>(argc));
  std::vector<std::string_view> words;
  if (!all.empty()) words.assign(all.begin() + 1, all.end());
  const bool pretend = !all.empty() && is_mount_helper(all.front()) && !take_helper_options(words);
  Parsed parsed = Parser(words).parse();
  if (parsed.wants_help || parsed.wants_version) {
    write_full(STDOUT_FILENO, parsed.wants_help ? help_text() : "pyram-mount " PYRAM_VERSION "\n",
               "the help");
    return std::nullopt;
  }

  Options& options = parsed.options;
  options.action = parsed.action.value_or(Action::kMount);
  const bool has_image = options.action == Action::kMount || options.action == Action::kExtract;
  if (parsed.places.size() != (has_image ? 2 : 1)) {
    throw usage(has_image ? "an image and a mount point are needed"
                          : "exactly one mount point is needed");
  }
  if (has_image) options.image = parsed.places.front();
  options.mount_point = parsed.places.back();
  if (options.action == Action::kMount && parsed.places.back().starts_with("/dev/fd/")) {
    options.device = descriptor_named_by(parsed.places.back()).value_or(-1);
  }
  if (parsed.single_threaded) options.threads = 1;
  if (parsed.all_of_status && options.status_format == StatusFormat::kSummary) {
    options.status_format = StatusFormat::kText;
  }
  apply_mount_options(options, parsed.mount_options);
  if (options.debug) {
    options.foreground = true;
    options.supervise = false;
  }
  if (parsed.is_worker) {
    if (options.action != Action::kMount) throw usage("--worker is for pyram-mount's own use");
    options.action = Action::kWork;
  }
  if (options.action == Action::kExtract && !options.subdirectory.empty()) {
    throw usage("-o subdir is not for --extract");
  }
  if (pretend) return std::nullopt;
  return std::move(options);
}

}  // namespace pyram
