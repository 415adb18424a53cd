"""Installs packages into an image's tree by the image's own pip.

usage: install_packages.py ORDER

ORDER is a JSON file: "tree" and "site" (directories), "work" (a directory for what is in between), "owners"
(path in the tree -> package that brought it), "requests" (pip's own arguments that say what to
install), "requirements" (requirements and lock files, see lock_files.py), "projects" (pyproject.toml files
whose dependencies are installed) and "options" (pip's own arguments that say where from).

pip decides what to fetch and checks its hashes. Everything is installed into an empty directory first,
so that what two packages both bring is found before it is in the image. Prints what was installed as
JSON. A failure is one line on stderr; exit code 9 for a hash that differs.
"""

import base64
import csv
import glob
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import zipfile

VERIFICATION = 9

# What would have pip install elsewhere, or say other things than those that are read here.
UNWANTED = ("TARGET", "PREFIX", "ROOT", "USER", "REPORT", "DRY_RUN", "UPGRADE", "FORCE_REINSTALL",
            "IGNORE_INSTALLED", "NO_DEPS", "REQUIREMENT", "EDITABLE", "QUIET", "VERBOSE", "LOG",
            "PYTHON", "PLATFORM", "IMPLEMENTATION", "ABI", "PYTHON_VERSION", "COMPILE")


def fail(text, code=6):
    print(" ".join(text.split()), file=sys.stderr)
    sys.exit(code)


def environment():
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith("PIP_") and name[4:] in UNWANTED)
    }
    kept["PIP_BREAK_SYSTEM_PACKAGES"] = "1"  # The image is nobody else's.
    kept["PIP_NO_COLOR"] = kept["PIP_NO_INPUT"] = "1"
    kept["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return kept


def explain(errors, tried, advice=None):
    """pip's reason as one line: the first that is an error, with what is indented below a hash's."""
    lines = [line.rstrip() for line in errors.splitlines() if line.strip()]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        at = next(i for i, line in enumerate(lines) if "DO NOT MATCH THE HASHES" in line)
        detail = [line.strip() for line in lines[at + 1:] if line.startswith(" ")]
        fail("cannot %s: a hash differs: %s" % (tried, "; ".join(detail)), VERIFICATION)
    known = [line for line in lines
             if line.startswith("ERROR: ") and not line.startswith("ERROR: Ignored the following")]
    # "ERROR: Exception:" is followed by a traceback: its last line says what happened.
    if not known or known[0].startswith("ERROR: Exception"):
        known = lines[-1:] or ["pip says nothing"]
    other_python = any("require a different python version" in line for line in lines)
    fail("cannot %s: %s%s" % (tried, no_version(known[0], other_python) or known[0].removeprefix("ERROR: "),
                              advice() if advice else ""))


def no_version(line, other_python):
    """pip's line with all versions of a package, shorter: the newest one that goes with this Python."""
    found = re.match(r"ERROR: Could not find a version that satisfies the requirement (.*) "
                     r"\(from versions: (.*)\)$", line)
    if not found:
        return None
    wanted, versions = found.groups()
    if versions == "none":
        return "there is no version of %s for Python %d.%d" % (wanted, *sys.version_info[:2])
    return "no version of %s%s; the newest one that can be had is %s" % (
        wanted, " goes with Python %d.%d" % sys.version_info[:2] if other_python else " is there",
        versions.rsplit(", ", 1)[-1])


def prepared_pip(order):
    """The command that runs pip. A wheel has no bytecode, nor has the tree yet: each run of `-m pip` would compile
    some hundred modules again. Unpacked, and with bytecode in the work directory, only the first run does."""
    command = [sys.executable, "-I", "-X", "pycache_prefix=" + os.path.join(order["work"], "bytecode")]
    wheels = sorted(glob.glob(os.path.join(sys.base_prefix, "share", "python-wheels", "pip-*.whl")))
    if not wheels or os.path.isdir(os.path.join(order["site"], "pip")):
        return [*command, "-m", "pip"]
    directory = os.path.join(order["work"], "pip")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(directory)
    # Nor does pip count a wheel that it runs from as installed: a package that needs pip gets one.
    for information in glob.glob(os.path.join(directory, "pip-*.dist-info")):
        shutil.rmtree(information)
    return [*command, os.path.join(directory, "pip")]


def run_pip(order, arguments):
    return subprocess.run([*order["pip"], *arguments], env=environment(), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)


def pip(order, arguments, tried, advice=None):
    """`advice` is called when it fails, and says more about it."""
    done = run_pip(order, arguments)
    if done.returncode != 0:
        explain(done.stderr or done.stdout, tried, advice)
    return done.stdout


def about_sources(order, items):
    """Which of `items` have no wheel for this PyPy, and the newest versions that have one."""
    parts = []
    for item in items:
        if urllib.parse.urlsplit(item["download_info"]["url"]).path.endswith(".whl"):
            continue
        name = item["metadata"]["name"]
        report = run_pip(order, ["install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed", "--only-binary",
                          ":all:", "--report", "-", *order["options"], name])
        newest = json.loads(report.stdout)["install"][0] if report.returncode == 0 else None
        parts.append("%s %s has no wheel for this PyPy%s" % (
            name, item["metadata"]["version"],
            "; ask for %s<=%s, which has one" % (name, newest["metadata"]["version"]) if newest else ""))
    return "".join("; " + part for part in parts)


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies(file):
    """Those of a pyproject.toml, which needn't describe a package that can be built."""
    import tomllib
    try:
        with open(file, "rb") as opened:
            text = tomllib.load(opened)
    except tomllib.TOMLDecodeError as error:
        fail("cannot use %r: %s" % (file, error))
    project = text.get("project", {})
    if "dependencies" in project.get("dynamic", []) or ("poetry" in text.get("tool", {})
                                                        and "dependencies" not in project):
        fail("cannot use %r: it doesn't list its dependencies under [project]; have its tool write a "
             "requirements.txt" % file)
    return project.get("dependencies", [])


def resolved(order, name, arguments):
    """What pip would install, as the items of its report."""
    report = os.path.join(order["work"], name)
    pip(order, ["install", "--quiet", "--dry-run", "--report", report, *order["options"], *arguments],
        "get the packages")
    with open(report, encoding="utf-8") as file:
        return json.load(file)["install"]


def files_for_pip(order):
    try:
        files = [for_pip(file, order["work"], number) for number, file in enumerate(order["requirements"])]
    except Unusable as error:
        fail(str(error))
    return [word for file in files for word in ("-r", file)]


def chosen(order):
    """What is to be installed, and the names of what no lock has."""
    files = files_for_pip(order)
    if not any(map(is_locked, order["requirements"])):
        names = [name for file in order["projects"] for name in dependencies(file)]
        return resolved(order, "report.json", [*order["requests"], *files, *names]), []
    # With hashes, pip demands them of all: what is asked for beside the lock is another call's.
    items = resolved(order, "locked.json", files)
    if not order["requests"]:
        return items, []
    locked = {plain(item["metadata"]["name"]) for item in items}
    pins = os.path.join(order["work"], "pins.txt")
    with open(pins, "w", encoding="utf-8") as file:
        file.writelines("%s==%s\n" % (item["metadata"]["name"], item["metadata"]["version"]) for item in items)
    added = [item for item in resolved(order, "report.json", ["-c", pins, *order["requests"]])
             if plain(item["metadata"]["name"]) not in locked]
    return items + added, sorted(item["metadata"]["name"] for item in added)


def stage(order, items):
    """Installs the chosen packages, and no others, into a directory of their own."""
    lines = []
    for item in items:
        info = item["download_info"]
        hashes = info.get("archive_info", {}).get("hashes", {})
        if not hashes:
            fail("cannot get the packages: %r is no package file; make a wheel of it and name that "
                 "with --wheel" % item["metadata"]["name"])
        lines.append("%s @ %s %s\n" % (
            item["metadata"]["name"], info["url"],
            " ".join("--hash=%s:%s" % pair for pair in sorted(hashes.items()))))
    requirements = os.path.join(order["work"], "chosen.txt")
    with open(requirements, "w", encoding="utf-8") as file:
        file.writelines(lines)
    directory = os.path.join(order["work"], "packages")
    pip(order, ["install", "--quiet", "--no-deps", "--no-compile", "--no-warn-script-location",
         "--target", directory, *order["options"], "-r", requirements], "install the packages",
        lambda: about_sources(order, items))
    return directory


def remove_older(order, name):
    """A package that the source brought gives way to the one that was asked for."""
    for old in importlib.metadata.distributions(path=[order["site"]]):
        if plain(old.metadata["Name"]) != plain(name):
            continue
        information = os.path.relpath(str(old._path), order["tree"])
        owner = next((owner for path, owner in order["owners"].items()
                      if path == information or path.startswith(information + "/")), None)
        if owner is None:
            fail("cannot install %r: the source has it already, as %s" % (name, information))
        for path in [path for path, by in order["owners"].items() if by == owner]:
            # What a package brought for others (licences, scripts of the same name) goes with it.
            full = os.path.join(order["tree"], path)
            if os.path.lexists(full):
                os.unlink(full)
            del order["owners"][path]
        shutil.rmtree(str(old._path), ignore_errors=True)


def destination(order, recorded):
    """Where a line of a RECORD means, in the image: relative to its root."""
    site = os.path.relpath(order["site"], order["tree"])
    if recorded.startswith("../../"):
        path = os.path.normpath(recorded[len("../../"):])
    else:
        path = os.path.normpath(os.path.join(site, recorded))
    if os.path.isabs(path) or path.split("/")[0] == "..":
        fail("cannot install the packages: the file %r lies outside of the image" % recorded)
    return path


def relocatable(text):
    """A script that starts with the interpreter beside it, wherever that is.

    An image has no fixed place, so the first line is the shell's; to Python the second is a string.
    """
    first, _, rest = text.partition(b"\n")
    if first == b"#!/bin/sh" and rest.startswith(b"'''exec' "):
        rest = rest.split(b"\n", 2)[2]  # pip writes a long interpreter's name in just this way.
    elif not re.match(rb"#!.*(python|pypy)", first):
        return text
    return (b"#!/bin/sh\n"
            b"'''exec' \"$(dirname \"$(readlink -f \"$0\")\")/pypy3\" \"$0\" \"$@\"\n"
            b"' '''\n" + rest)


def digest(data):
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def licences(metadata):
    if metadata.get("License-Expression"):
        return [metadata["License-Expression"]]
    named = [line.rsplit(" :: ", 1)[1] for line in metadata.get_all("Classifier") or []
             if line.startswith("License :: ") and line.count(" :: ") >= 2]
    short = (metadata.get("License") or "").strip()
    return sorted(set(named)) or ([short] if short and "\n" not in short else [])


def move_in(order, directory, dist, owners):
    """Moves one staged package into the image. Returns its files, relative to the image's root."""
    name = dist.metadata["Name"]
    information = os.path.basename(str(dist._path))
    rows, files = [], []
    with open(os.path.join(directory, information, "RECORD"), newline="", encoding="utf-8") as file:
        recorded = [row[0] for row in csv.reader(file) if row]
    for path in sorted(set(recorded)):
        target = destination(order, path)
        source = os.path.join(directory, path.removeprefix("../../"))
        # direct_url.json says where on this machine a wheel was: nobody's business.
        if path.endswith(".dist-info/direct_url.json") or "__pycache__" in path:
            continue
        if target in owners:
            fail("the packages %r and %r both bring %r; leave one of them out"
                 % (owners[target], name, target))
        full = os.path.join(order["tree"], target)
        if os.path.lexists(full):
            fail("the packages %r and %r both bring %r; leave one of them out"
                 % (order["owners"].get(target, "of the source"), name, target))
        owners[target] = name
        files.append(target)
        if path.endswith(".dist-info/RECORD"):
            continue
        with open(source, "rb") as file:
            data = file.read()
        mode = 0o755 if os.stat(source).st_mode & 0o100 else 0o644
        if target.startswith("bin/"):
            data = relocatable(data) if data.startswith(b"#!") else data
            mode = 0o755
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(data)
        os.chmod(full, mode)
        rows.append((os.path.relpath(full, order["site"]), digest(data), len(data)))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [*rows, (information + "/RECORD", "", "")])
    with open(os.path.join(order["site"], information, "RECORD"), "w", encoding="utf-8") as file:
        file.write(text.getvalue())
    return files


def check_staged(order, staged):
    """Two packages that bring the same file: said before either is in the image."""
    owners = {}
    for dist in staged:
        for file in dist.read_text("RECORD").splitlines():
            path = destination(order, next(csv.reader([file]))[0])
            other = owners.setdefault(path, dist.metadata["Name"])
            if other != dist.metadata["Name"] and "__pycache__" not in path:
                fail("the packages %r and %r both bring %r; leave one of them out"
                     % (other, dist.metadata["Name"], path))


def misfits(order):
    """What `pip check` finds missing. PyPy's own cffi, for one, names what it has built in."""
    checked = run_pip(order, ["check"])
    if checked.returncode == 0:
        return []
    return (checked.stdout or checked.stderr).strip().splitlines()


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.load(file)
    os.makedirs(order["site"], exist_ok=True)
    order["pip"] = prepared_pip(order)
    complaints = misfits(order)
    items, unlocked = chosen(order)
    installed = []
    if items:
        directory = stage(order, items)
        staged = sorted(importlib.metadata.distributions(path=[directory]),
                        key=lambda dist: plain(dist.metadata["Name"]))
        check_staged(order, staged)
        for dist in staged:
            remove_older(order, dist.metadata["Name"])
        owners = {}
        by_name = {plain(item["metadata"]["name"]): item for item in items}
        for dist in staged:
            info = by_name[plain(dist.metadata["Name"])]["download_info"]
            path = urllib.parse.urlsplit(info["url"]).path
            files = move_in(order, directory, dist, owners)
            installed.append({
                "name": dist.metadata["Name"],
                "version": dist.version,
                "source": os.path.basename(urllib.parse.unquote(path)),
                "sha256": info["archive_info"]["hashes"].get("sha256", ""),
                "licences": licences(dist.metadata),
                "files": files,
            })
        shutil.rmtree(directory)
    fresh = [line for line in misfits(order) if line not in complaints]
    if fresh:
        fail("the packages don't fit together: " + "; ".join(fresh))
    notes = ["not in the lock file, so without a hash of yours: " + ", ".join(unlocked)] if unlocked else []
    json.dump({"installed": installed, "owners": order["owners"], "notes": notes}, sys.stdout)


main()
