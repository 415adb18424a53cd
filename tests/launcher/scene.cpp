#include "tests/launcher/scene.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

#include "tests/support/catch.h"

namespace pyram::test {

namespace fs = std::filesystem;

namespace {

constexpr char kUserEnvironment[] = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

// The kernel writes blanks in paths as \040.
std::string unescape(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      int value = 0;
      std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8);
      result.push_back(static_cast<char>(value));
      i += 3;
    } else {
      result.push_back(text[i]);
    }
  }
  return result;
}

void unmount(const std::string& mount_point) {
  if (::umount2(mount_point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return;
  static_cast<void>(run({{"fusermount3", "-u", "-z", "-q", mount_point}, {}, {}}));
}

std::string name_of(const std::string& setting) { return setting.substr(0, setting.find('=')); }

}  // namespace

void link_or_copy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_hard_link(from, to, error);
  if (error) fs::copy_file(from, to);
}

Scene::Scene() {
  fs::create_directory(path("bin"));
  for (const char* name : {"pyram", "pyram-mount"}) link_or_copy(program(name), path("bin") / name);
  link_or_copy(default_image(), image());
  for (const Who who : {Who::kSelf, Who::kPlain}) {
    if (!fs::create_directory(runtime_parent(who))) continue;
    fs::permissions(runtime_parent(who), fs::perms::owner_all);
  }
  give_to_plain_user(runtime_parent(Who::kPlain));
}

Scene::~Scene() {
  for (const std::string& mount_point : mounts()) unmount(mount_point);
  for (const pid_t pid : daemons()) kill_and_wait(pid);
  std::error_code ignored;
  for (const uid_t uid : {::geteuid(), kPlainUser}) {
    const std::string directory = "/dev/shm/pyram-" + std::to_string(uid);
    for (const Who who : {Who::kSelf, Who::kPlain}) {
      for (const auto& entry : fs::directory_iterator(runtime(who), ignored)) {
        fs::remove_all(fs::path(directory) / entry.path().filename(), ignored);
      }
    }
    fs::remove(directory, ignored);
  }
}

fs::path Scene::runtime_parent(Who who) const {
  // Who isn't root is the plain user.
  return who == Who::kSelf || !running_as_root() ? path("run") : path("run-plain");
}

Command Scene::environment(Who who, std::vector<std::string> arguments,
                           const std::vector<std::string>& extra) const {
  std::vector<std::string> settings{"PYRAM_IMAGE=" + image(),
                                    "XDG_RUNTIME_DIR=" + runtime_parent(who).native()};
  for (const std::string& setting : extra) {
    std::erase_if(settings, [&](const auto& other) { return name_of(other) == name_of(setting); });
    if (setting.find('=') != std::string::npos) settings.push_back(setting);
  }
  if (who == Who::kPlain) return as_plain_user(std::move(arguments), std::move(settings));
  if (std::none_of(settings.begin(), settings.end(),
                   [](const auto& setting) { return name_of(setting) == "PATH"; })) {
    settings.emplace_back(kUserEnvironment);
  }
  return {std::move(arguments), std::move(settings), {}};
}

Command Scene::command(Who who, const std::vector<std::string>& arguments,
                       const std::vector<std::string>& extra) const {
  std::vector<std::string> all{pyram()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return environment(who, std::move(all), extra);
}

Outcome Scene::start(Who who, const std::vector<std::string>& arguments,
                     const std::vector<std::string>& extra) const {
  return run(command(who, arguments, extra));
}

Outcome Scene::shell(Who who, const std::string& text,
                     const std::vector<std::string>& extra) const {
  Command command = environment(who, {"/bin/sh", "-c", text, pyram()}, extra);
  command.directory = path("");
  return run(command);
}

std::vector<std::string> Scene::mounts() const {
  std::vector<std::string> result;
  std::ifstream lines("/proc/self/mountinfo");
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string id, parent, device, root, mount_point;
    fields >> id >> parent >> device >> root >> mount_point;
    mount_point = unescape(mount_point);
    if (mount_point.starts_with(directory_.path().native() + "/")) result.push_back(mount_point);
  }
  return result;
}

std::vector<pid_t> Scene::daemons() const {
  std::vector<pid_t> result;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
    std::error_code error;
    const fs::path file = fs::read_symlink(entry.path() / "exe", error);
    if (!error && file.native().starts_with(pyram_mount())) result.push_back(pid);
  }
  return result;
}

const fs::path& unpacked_image() {
  struct Unpacked {
    TemporaryDirectory directory;
    fs::path root = directory / "root";
    Unpacked() {
      run_or_throw(
          {{"unsquashfs", "-q", "-n", "-d", root.native(), default_image().native()}, {}, {}},
          ExitCode::kFailed, "unpack the image");
    }
  };
  static const Unpacked unpacked;
  return unpacked.root;
}

}  // namespace pyram::test
