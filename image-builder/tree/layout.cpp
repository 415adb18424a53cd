#include "image-builder/tree/layout.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <set>
#include <utility>

#include "image-builder/elf/closure.h"
#include "image-builder/elf/file.h"
#include "image-builder/embedded.h"
#include "image-builder/output_file.h"
#include "support/error.h"
#include "support/image_layout.h"
#include "support/io.h"

namespace pyram::builder {
namespace fs = std::filesystem;
namespace {

// tzdata's link to the machine's own setting. Every image of Debian's packages would tell of it.
constexpr std::string_view kOwnTimeZone = "share/zoneinfo/localtime";

// Follows symbolic links as they would be followed with `root` as the root.
fs::path resolve(const fs::path& path, const fs::path& root) {
  fs::path current = path;
  for (int links = 0; links < 40 && fs::is_symlink(current); ++links) {
    const fs::path target = fs::read_symlink(current);
    current = target.is_absolute() ? root / target.relative_path()
                                   : (current.parent_path() / target).lexically_normal();
  }
  return current;
}

bool is_below(const fs::path& path, const fs::path& directory) {
  const fs::path relative = path.lexically_relative(directory);
  return !relative.empty() && *relative.begin() != "..";
}

// Moves things from a source into an image and remembers whose they were. Links are made at the
// end, when it is known what else came along.
class Mover {
 public:
  Mover(const SourceTree& source, ImageTree& image) : source_(source), image_(image) {}

  // `from` is absolute, `to` relative to the image. Does nothing when `from` isn't there.
  void take(const fs::path& from, const fs::path& to) {
    if (!fs::exists(fs::symlink_status(from))) return;
    if (fs::is_directory(fs::symlink_status(from))) {
      fs::create_directories(image_.tree / to);
      for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
        take(entry.path(), to / entry.path().filename());
      }
      return;
    }
    const fs::path target = image_.tree / to;
    fs::create_directories(target.parent_path());
    if (fs::is_symlink(from)) {
      links_[to] = from;
      return;
    }
    note(from, to);
    if (source_.movable) {
      fs::rename(from, target);
    } else {
      copy_content(from, target);
    }
  }

  void make_links() {
    for (const auto& [to, from] : links_) {
      note(from, to);
      make_link(from, to);
    }
  }

 private:
  void note(const fs::path& from, const fs::path& to) {
    if (const auto owner = source_.owners.find(from.lexically_relative(source_.root).native());
        owner != source_.owners.end()) {
      image_.owners[to.native()] = owner->second;
    }
    struct stat status {};
    if (::stat(from.c_str(), &status) == 0) {
      image_.newest = std::max<std::int64_t>(image_.newest, status.st_mtim.tv_sec);
    }
  }

  // A link stays one where its target comes along. Debian's python3-django, for one, has links into
  // another package's directory: then the file that is meant comes in the link's place.
  void make_link(const fs::path& from, const fs::path& to) {
    const fs::path target = fs::read_symlink(from);
    const fs::path inside = (to.parent_path() / target).lexically_normal();
    const bool comes =
        fs::exists(fs::symlink_status(image_.tree / inside)) || links_.find(inside) != links_.end();
    const bool leaves = target.native().find("..") != std::string::npos;
    const bool stays = target.is_relative() && is_below(inside, ".") && (comes || !leaves);
    if (stays) {
      fs::create_symlink(target, image_.tree / to);
      return;
    }
    const fs::path real = resolve(from, source_.root);
    if (fs::is_regular_file(real) && is_below(real, source_.root)) {
      copy_content(real, image_.tree / to);
    } else if (to.native() != kOwnTimeZone) {
      image_.notes.push_back("left out the link " + quote(to.native()) + ": its target " +
                             quote(target.native()) + " is not in the source");
    }
  }

  const SourceTree& source_;
  ImageTree& image_;
  std::map<fs::path, fs::path> links_;  // Path in the image -> the link in the source.
};

fs::path find_program_file(const SourceTree& source) {
  // In an unpacked image bin/pypy3 is our own program.
  if (fs::exists(source.prefix / layout::kProgram)) return source.prefix / layout::kProgram;
  for (const char* name : {"bin/pypy3", "bin/pypy"}) {
    fs::path program = resolve(source.prefix / name, source.root);
    if (fs::exists(program)) {
      if (!is_elf(program)) {
        throw Error(ExitCode::kBadSource,
                    quote(program.native()) +
                        " is no program file of this machine's kind; name the "
                        "directory of an installed PyPy");
      }
      return program;
    }
  }
  throw Error(ExitCode::kBadSource,
              "there is no PyPy in " + quote(source.prefix.native()) +
                  ": bin/pypy3 is missing; name the directory that holds bin/ "
                  "and lib/");
}

// A script that starts with "#!...python3" made to start with the interpreter beside it. An image
// has no fixed place, so the first line is the shell's: to Python the second is a string.
std::optional<std::string> relocatable_script(const std::string& text) {
  std::size_t end = text.find('\n');
  if (!text.starts_with("#!") || end == std::string::npos) return std::nullopt;
  const std::string first = text.substr(0, end);
  // The same form, as an image has it and as pip writes it where the interpreter's name is long.
  if (first == "#!/bin/sh" && text.compare(end, 9, "\n'''exec'") == 0) {
    const std::size_t closing = text.find("\n' '''\n", end);
    if (closing == std::string::npos) return std::nullopt;
    end = closing + 6;
  } else if (first.find("python") == std::string::npos && first.find("pypy") == std::string::npos) {
    return std::nullopt;
  }
  return "#!/bin/sh\n"
         "'''exec' \"$(dirname \"$(readlink -f \"$0\")\")/pypy3\" \"$0\" \"$@\"\n"
         "' '''\n" +
         text.substr(end + 1);
}

void take_scripts(const SourceTree& source, ImageTree& image) {
  if (!fs::is_directory(source.prefix / "bin")) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(source.prefix / "bin")) {
    const fs::path real = resolve(entry.path(), source.root);
    const std::string name = entry.path().filename().native();
    // PyPy's own helpers there (pypy3compile, pip) serve an installed PyPy.
    if (name.starts_with("pypy") || name.starts_with("pip") || name.starts_with("py3")) continue;
    if (!fs::is_regular_file(real) || fs::file_size(real) > (1 << 16) || is_elf(real)) continue;
    const auto script = relocatable_script(read_file(real));
    if (!script) continue;
    const fs::path to = fs::path("bin") / name;
    fs::create_directories(image.tree / "bin");
    write_file(image.tree / to, *script);
    fs::permissions(image.tree / to, fs::perms(0755));
    if (const auto owner = source.owners.find(real.lexically_relative(source.root).native());
        owner != source.owners.end()) {
      image.owners[to.native()] = owner->second;
    }
  }
}

// Adds a piece of ours to the end of a file, in place of one that is there from an earlier build.
void append(const fs::path& file, std::string_view text) {
  constexpr std::string_view kOurs = "\n# Pyram: ";
  const std::string before = read_file(file);
  write_file(file, before.substr(0, before.find(kOurs)) + std::string(text));
}

// python/image_startup.py with what it leaves open filled in.
std::string startup_text(const ImageTree& image) {
  std::string version = PYRAM_VERSION;
  std::replace(version.begin(), version.end(), '.', ',');
  std::string text(startup_program());
  for (const auto& [mark, value] : {std::pair<std::string_view, std::string>{"@VERSION@", version},
                                    {"@STDLIB@", image.directories.stdlib},
                                    {"@INDEX@", layout::kModuleIndex},
                                    {"@UNPACKED@", layout::kUnpacked},
                                    {"@DELTAS@", layout::kBytecodeDeltas}}) {
    text.replace(text.find(mark), mark.size(), value);
  }
  return text;
}

// Has Python find the machine's certificates where Debian doesn't keep them. Read when ssl is
// imported, so that other starts don't pay for it. pip's certifi is in its wheel.
void adapt_certificates(const ImageTree& image) {
  const fs::path module = fs::path(image.facts.stdlib) / "_cffi_ssl/_stdssl/__init__.py";
  if (fs::exists(module)) append(module, certificate_stores());
  for (const fs::path& site : image.facts.sites) {
    const fs::path certifi = site / "certifi/core.py";
    if (!fs::exists(certifi)) continue;
    const std::string text = read_file(certifi);
    const std::size_t debian = text.find("\n# Debian: Use system CA certs:");
    if (debian == std::string::npos) continue;  // As its project made it, with its own bundle.
    write_file(certifi, text.substr(0, debian) + std::string(certifi_where()));
  }
}

// launcher/virtual_environment.h reads it.
constexpr std::string_view kVenvAddition = R"(
# Pyram: an environment goes on with the image that was named when it was made.
def _pyram_image():
    image = os.environ.get('PYRAM_IMAGE', '')
    if '/' in image or image.endswith('.sqfs'):
        return os.path.abspath(image)
    if not image and sys.prefix != sys.base_prefix:
        with open(os.path.join(sys.prefix, 'pyvenv.cfg'), encoding='utf-8') as file:
            for line in file:
                name, _, value = line.partition('=')
                if name.strip() == 'pyram-image':
                    return value.strip()
    return image

def _create_configuration(self, context, _usual=EnvBuilder.create_configuration):
    _usual(self, context)
    image = _pyram_image()
    if image:
        with open(context.cfg_path, 'a', encoding='utf-8') as file:
            file.write('pyram-image = %s\n' % image)

EnvBuilder.create_configuration = _create_configuration
)";

// Packages such as psycopg ask for their library by name. Kept in step with layout::kLibraries.
constexpr std::string_view kFindLibraryAddition = R"(
# Pyram: the image's own libraries come first, as they do for the loader. A machine may have no others, and
# nothing that would find them.
def _pyram(usual):
    def find_library(name):
        import sys
        begin = 'lib%s.so' % name
        try:
            names = os.listdir(os.path.join(sys.base_prefix, 'libexec', 'pyram'))
        except OSError:
            names = []
        found = [file for file in names if file == begin or file.startswith(begin + '.')]
        return min(found, key=len) if found else usual(name)
    return find_library

find_library = _pyram(find_library)
)";
static_assert(std::string_view(layout::kLibraries) == "libexec/pyram");

// What the standard library has to know about living in an image. Each piece is appended, so that
// it doesn't depend on how a version's text reads.
void adapt_standard_library(const ImageTree& image) {
  const fs::path stdlib = image.facts.stdlib;
  // encodings is imported at every start, also with -I and -S: the cheapest place there is.
  append(stdlib / "encodings/__init__.py", startup_text(image));
  for (const fs::directory_entry& entry : fs::directory_iterator(stdlib)) {
    const std::string name = entry.path().filename().native();
    if (!name.starts_with("_sysconfigdata") || !name.ends_with(".py")) continue;
    append(entry.path(),
           "\n# Pyram: what the image brings, found where the image is.\n"
           "def _pyram():\n"
           "    import os, sys\n"
           "    share = os.path.join(sys.base_prefix, 'share')\n"
           "    zones = build_time_vars.get('TZPATH') or '/usr/share/zoneinfo'\n"
           "    build_time_vars['TZPATH'] = zones + ':' + os.path.join(share, 'zoneinfo')\n"
           "    build_time_vars['WHEEL_PKG_DIR'] = os.path.join(share, 'python-wheels')\n"
           "_pyram()\n");
  }
  const fs::path ensurepip = stdlib / "ensurepip/__init__.py";
  if (fs::exists(ensurepip) && fs::exists(image.tree / "share/python-wheels")) {
    append(
        ensurepip,
        "\n# Pyram: pip's wheel lies in the image; there need not be one of setuptools. pip finds\n"
        "# by itself that it can't write into the image, and installs for the user.\n"
        "_WHEEL_PKG_DIR = os.path.join(sys.base_prefix, 'share', 'python-wheels')\n"
        "_PACKAGE_NAMES = tuple(sorted(_find_packages(_WHEEL_PKG_DIR), reverse=True))\n"
        "_PROJECTS = [project for project in _PROJECTS if project[0] in _PACKAGE_NAMES]\n"
        "def _ensurepip_is_disabled_in_debian_for_system():\n"
        "    pass\n");
  }
  const fs::path ctypes = stdlib / "ctypes/util.py";
  if (fs::exists(ctypes)) append(ctypes, kFindLibraryAddition);
  // The queue module takes it where it is there. A built-in one comes first.
  const fs::path queue = stdlib / "_queue.py";
  if (!fs::exists(queue) || read_file(queue).starts_with("# Pyram: ")) {
    write_file(queue, queue_module());
  }
  if (fs::exists(stdlib / "venv/__init__.py")) append(stdlib / "venv/__init__.py", kVenvAddition);
}

// `-m pip` without an installed pip: runs the wheel. In a virtual environment an installed pip
// comes first.
constexpr char kPipModule[] =
    R"("""Runs pip out of the wheel that the image holds for ensurepip."""

import glob
import os
import sys


def _use_wheel():
    wheels = sorted(glob.glob(os.path.join(sys.base_prefix, "share", "python-wheels", "pip-*.whl")))
    if not wheels:
        raise ImportError("this image holds no wheel of pip")
    sys.path.insert(0, wheels[-1])


if __name__ == "__main__":
    _use_wheel()
    import runpy

    runpy.run_module("pip", run_name="__main__", alter_sys=True)
else:
    _use_wheel()
    del sys.modules[__name__]
    import pip  # noqa: now the wheel's
)";

void add_pip_module(const ImageTree& image) {
  if (!fs::exists(image.tree / "share/python-wheels") || image.facts.sites.empty()) return;
  const fs::path site = image.facts.sites.back();
  if (!fs::exists(site / "pip")) write_file(site / "pip.py", kPipModule);
}

// A wheel is compressed weakly, and what is compressed already an image cannot compress better.
void repack_wheels(const ImageTree& image, const fs::path& work) {
  const fs::path directory = image.tree / "share/python-wheels";
  if (!fs::exists(directory)) return;
  std::vector<std::string> wheels;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".whl") wheels.push_back(entry.path().native());
  }
  std::sort(wheels.begin(), wheels.end());
  std::vector<std::string> arguments = {std::string(certifi_where())};
  arguments.insert(arguments.end(), wheels.begin(), wheels.end());
  run_or_throw(python_command(image.starter, std::string(repack_wheel_program()), arguments, work),
               ExitCode::kBadSource, "repack the wheels");
}

// Where the interpreter isn't Debian's, ensurepip has its wheels beside it.
void take_bundled_wheels(ImageTree& image) {
  const fs::path bundled = image.tree / image.directories.stdlib / "ensurepip/_bundled";
  const fs::path wheels = image.tree / "share/python-wheels";
  if (!fs::is_directory(bundled) || fs::exists(wheels)) return;
  fs::create_directories(wheels.parent_path());
  fs::rename(bundled, wheels);
}

// The directories of installed packages. A single one is moved to where images have theirs.
void take_packages(const SourceTree& source, const InterpreterFacts& facts, Mover& mover,
                   ImageTree& image) {
  std::vector<fs::path> sites;
  for (const fs::path& site : facts.sites) {
    if (is_below(site, source.prefix)) sites.push_back(site);
  }
  for (const fs::path& site : sites) {
    const bool came = is_below(site, facts.stdlib);  // With the standard library.
    const bool moves = !came && sites.size() == 1 && is_below(facts.site_in_image, source.prefix);
    const fs::path& place = moves ? facts.site_in_image : site;
    image.directories.sites.push_back(place.lexically_relative(source.prefix));
    if (!came) mover.take(site, image.directories.sites.back());
  }
}

// The licences that a source has by itself: of everything in it where it is an unpacked image, else
// PyPy's, for an installed one may share its prefix with other programs.
void take_licences(const SourceTree& source, Mover& mover, ImageTree& image) {
  const bool has_packages = !source.is_image && !source.owners.empty();
  if (has_packages) return;  // Theirs are taken when it is known which are in the image.
  const auto take = [&](const fs::path& from, const fs::path& directory) {
    if (!fs::is_regular_file(fs::symlink_status(from))) return;
    const fs::path to = "share/doc" / directory / "copyright";
    mover.take(from, to);
    if (!source.is_image) image.owners[to.native()] = "pypy";
  };
  take(source.prefix / "LICENSE", "pypy");
  const fs::path documents = source.prefix / "share/doc";
  if (!fs::is_directory(documents)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(documents)) {
    const std::string name = entry.path().filename();
    if (source.is_image || name.starts_with("pypy")) take(entry.path() / "copyright", name);
  }
}

void make_entry_points(ImageTree& image, const std::string& short_version) {
  const fs::path interpreter = image.tree / layout::kInterpreter;
  const auto bytes = trampoline(image.architecture->elf);
  if (bytes.empty()) {
    throw Error(ExitCode::kMissingTool,
                "cannot make an image for " + std::string(image.architecture->debian) +
                    ": this pyram-image was built without machine code for it; build it where " +
                    std::string(image.architecture->machine) + "-linux-gnu-g++ is installed");
  }
  fs::create_directories(interpreter.parent_path());
  write_file(interpreter, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  fs::permissions(interpreter, fs::perms(0755));
  for (const std::string& name :
       {std::string("pypy"), std::string("python"), std::string("python3"), "pypy" + short_version,
        "python" + short_version}) {
    const fs::path link = interpreter.parent_path() / name;
    fs::remove(link);
    fs::create_symlink(interpreter.filename(), link);
  }
}

// The file that a loader's absolute path means: in the source, else on this machine.
std::optional<fs::path> find_loader(const SourceTree& source, const fs::path& path) {
  if (fs::exists(source.prefix / layout::kLoader)) return source.prefix / layout::kLoader;
  for (const fs::path& candidate :
       {source.root / path.relative_path(), source.root / "usr" / path.relative_path()}) {
    const fs::path real = resolve(candidate, source.root);
    if (fs::exists(real)) return real;
  }
  std::error_code missing;
  const fs::path real = fs::canonical(path, missing);
  return missing ? std::nullopt : std::optional(real);
}

// Where libraries come from. A loader and a C library belong together, so the loader's own
// directory is the first; beside the program is where portable builds have theirs.
Runtime find_runtime(const SourceTree& source, const fs::path& program) {
  const std::string named = read_elf_facts(program).loader;
  if (named.empty()) {
    throw Error(ExitCode::kBadSource, "cannot make an image of " + quote(program.native()) +
                                          ": it is linked statically or names no loader");
  }
  const std::optional<fs::path> loader = find_loader(source, named);
  if (!loader) {
    throw Error(ExitCode::kBadSource, "cannot find the loader " + quote(named) + " that " +
                                          quote(program.native()) +
                                          " needs; install the C library that it was built for");
  }
  Runtime runtime{*loader, {loader->parent_path()}};
  const auto add = [&](const fs::path& directory) {
    runtime.library_directories.push_back(directory);
  };
  std::for_each(source.library_directories.begin(), source.library_directories.end(), add);
  add(program.parent_path());
  if (source.system_libraries) {
    const std::vector<fs::path> system = system_library_directories();
    std::for_each(system.begin(), system.end(), add);
  }
  return runtime;
}

Starter start_program(const SourceTree& source, const fs::path& program, const Runtime& runtime) {
  return through_loader(runtime.loader, runtime.library_directories, program,
                        source.prefix / "bin/pypy3");
}

}  // namespace

Starter start_in_place(const SourceTree& source) {
  const fs::path program = find_program_file(source);
  return start_program(source, program, find_runtime(source, program));
}

ImageTree lay_out(const SourceTree& source, const fs::path& tree, const fs::path& work) {
  ImageTree image;
  image.tree = tree;
  const fs::path program = find_program_file(source);
  image.runtime = find_runtime(source, program);
  if (const auto* known = find_architecture(read_elf_facts(program).machine)) {
    image.architecture = known;
  }
  const InterpreterFacts facts = ask(start_program(source, program, image.runtime), work);
  if (!is_below(facts.stdlib, source.prefix)) {
    throw Error(ExitCode::kBadSource, "the interpreter in " + quote(source.prefix.native()) +
                                          " finds its standard library elsewhere, in " +
                                          quote(facts.stdlib.native()) + "; its lib/ is not whole");
  }
  fs::create_directories(tree);
  Mover mover(source, image);
  mover.take(program, layout::kProgram);
  image.directories.stdlib = facts.stdlib.lexically_relative(source.prefix);
  mover.take(facts.stdlib, image.directories.stdlib);
  take_packages(source, facts, mover, image);
  for (const char* directory : {"share/zoneinfo", "share/python-wheels", "share/common-licenses"}) {
    mover.take(source.prefix / directory, directory);
  }
  take_bundled_wheels(image);
  take_licences(source, mover, image);
  mover.make_links();
  take_scripts(source, image);
  make_entry_points(image, facts.short_version);
  return image;
}

namespace {

// What a wheel may expect of any system (the manylinux policies), as far as it comes with the C
// library and the compiler. Much of it is empty since glibc 2.34, but a machine's own older or
// missing one doesn't go with the image's C library. Not libmvec: 1 MB, and only the newest
// policies name it; and not what belongs to a desktop.
constexpr const char* kOfManylinux[] = {
    "libanl.so.1",     "libatomic.so.1", "libdl.so.2", "libgcc_s.so.1",  "libnsl.so.1",
    "libpthread.so.0", "libresolv.so.2", "librt.so.1", "libstdc++.so.6", "libutil.so.1"};

// Those of the packages that the user named. No ELF file may need them: Python modules load some by
// their names, as psycopg does libpq.
std::vector<std::string> named_libraries(const SourceTree& source) {
  std::vector<std::string> result;
  for (const auto& [path, owner] : source.owners) {
    if (std::count(source.named.begin(), source.named.end(), owner) == 0) continue;
    const fs::path file = source.root / path;
    const auto& places = source.library_directories;
    if (std::count(places.begin(), places.end(), file.parent_path()) == 0 || !is_elf(file)) {
      continue;
    }
    const std::string name = file.filename().native();
    if (read_elf_facts(file).soname == name) result.push_back(name);
  }
  return result;
}

}  // namespace

void add_libraries(const SourceTree& source, ImageTree& image) {
  const auto copy = [&](const fs::path& from, const fs::path& to) {
    fs::create_directories((image.tree / to).parent_path());
    copy_content(from, image.tree / to);
    fs::permissions(image.tree / to, fs::perms(0755));
    const auto owner = source.owners.find(from.lexically_relative(source.root).native());
    if (owner != source.owners.end()) {
      image.owners[to.native()] = owner->second;
    } else if (!is_below(from, source.prefix)) {
      image.machine_files[to.native()] = from;
    }
  };
  const std::string loader_name = read_elf_facts(image.runtime.loader).soname;
  std::vector<std::string> optional = named_libraries(source);
  optional.insert(optional.end(), std::begin(kOfManylinux), std::end(kOfManylinux));
  const auto closure =
      library_closure({image.tree, image.runtime.library_directories, loader_name, optional});
  if (!fs::exists(image.tree / layout::kLoader)) copy(image.runtime.loader, layout::kLoader);
  for (const auto& [name, found] : closure) {
    if (fs::exists(image.tree / layout::kLibraries / name)) continue;
    copy(found.file, fs::path(layout::kLibraries) / name);
    image.libraries.push_back(name);
  }
}

void complete(const SourceTree& source, ImageTree& image, const fs::path& work) {
  add_libraries(source, image);
  image.starter.words = {(image.tree / layout::kInterpreter).native()};
  if (image.architecture != &own_architecture()) {
    image.starter =
        through_loader(image.tree / layout::kLoader, {image.tree / layout::kLibraries},
                       image.tree / layout::kProgram, image.tree / layout::kInterpreter);
  }
  image.facts = ask(image.starter, work);
  adapt_standard_library(image);
  adapt_certificates(image);
  add_pip_module(image);
  repack_wheels(image, work);
}

void normalise_modes(const fs::path& tree) {
  const auto set = [](const fs::path& path, mode_t mode) {
    if (::chmod(path.c_str(), mode) != 0) {
      throw system_error(ExitCode::kCannotWrite, errno, "set the mode of " + quote(path.native()));
    }
  };
  set(tree, 0755);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(tree)) {
    if (entry.is_symlink()) continue;
    const bool executable =
        (entry.status().permissions() & fs::perms::owner_exec) != fs::perms::none;
    set(entry.path(), entry.is_directory() || executable ? 0755 : 0644);
  }
}

}  // namespace pyram::builder
