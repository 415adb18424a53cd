"""What of a request is locked, for install_packages.py, which this is put before.

A requirements file with hashes is locked, as for pip, and so is a pylock.toml (PEP 751), which the image's pip
doesn't read: it is rewritten as requirements with hashes. A lock says all that a project needs, so nothing
beside it is asked of the package index for the project.
"""

import os
import re
import sys

STRONG = "sha256", "sha384", "sha512"  # What pip takes for --hash.


class Unusable(Exception):
    """A lock file that cannot be used, in one line."""


def is_pylock(file):
    return re.fullmatch(r"pylock\.([^.]+\.)?toml", os.path.basename(file)) is not None


def is_locked(file, seen=()):
    """Whether pip would demand hashes for this file's requirements."""
    if is_pylock(file):
        return True
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            text = opened.read()
    except OSError:
        return False  # pip says what is wrong.
    if re.search(r"^[^#\n]*--(hash|require-hashes)\b", text, re.M):
        return True
    named = re.findall(r"^\s*(?:-r|--requirement)[ =]*(\S+)", text, re.M)
    others = [os.path.join(os.path.dirname(file), name) for name in named]
    return any(is_locked(other, (*seen, file)) for other in others if other not in seen)


def _hashes(entry, what):
    found = ["--hash=%s:%s" % (name, value) for name, value in sorted(entry.get("hashes", {}).items())
             if name in STRONG]
    if not found:
        raise Unusable("%s has no hash" % what)
    return found


def _is_the_project(package, directory):
    path = package.get("directory", {}).get("path")
    return path is not None and os.path.realpath(os.path.join(directory, path)) == os.path.realpath(directory)


def _requirement(package, directory):
    """A package of a pylock.toml as a line that pip takes."""
    name = package["name"]
    if "archive" in package:
        archive = package["archive"]
        place = archive.get("url") or "file://" + os.path.realpath(os.path.join(directory, archive["path"]))
        return " ".join(["%s @ %s" % (name, place), *_hashes(archive, name)])
    files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    if not files or "version" not in package:
        kind = next((kind for kind in ("vcs", "directory") if kind in package), "nothing that can be checked")
        raise Unusable("%s comes from %s, which has no hash; make a wheel of it and name that with --wheel"
                       % (name, kind))
    hashes = [text for file in files for text in _hashes(file, name)]
    return " ".join(["%s==%s" % (name, package["version"]), *sorted(set(hashes))])


def pylock_requirements(file):
    """The lines of a requirements file for what a pylock.toml locks for this interpreter."""
    import tomllib

    from pip._vendor.packaging.markers import InvalidMarker, Marker
    from pip._vendor.packaging.specifiers import SpecifierSet
    try:
        with open(file, "rb") as opened:
            lock = tomllib.load(opened)
        if not str(lock.get("lock-version", "")).startswith("1."):
            raise Unusable("its lock-version is %r, and 1.0 is known here" % lock.get("lock-version"))
        python = "%d.%d.%d" % sys.version_info[:3]
        if not SpecifierSet(lock.get("requires-python", "")).contains(python):
            raise Unusable("it is for Python %s, and the image's is %s" % (lock["requires-python"], python))
        chosen = {"extras": set(), "dependency_groups": set(lock.get("default-groups", []))}

        def holds(marker):
            return Marker(marker).evaluate(chosen, context="lock_file")

        environments = lock.get("environments", [])
        if environments and not any(map(holds, environments)):
            raise Unusable("it is for none but these: " + "; ".join(environments))
        directory = os.path.dirname(os.path.abspath(file))
        return [_requirement(package, directory) for package in lock.get("packages", [])
                if not _is_the_project(package, directory)
                and ("marker" not in package or holds(package["marker"]))]
    except (tomllib.TOMLDecodeError, InvalidMarker, KeyError, TypeError, AttributeError, OSError) as error:
        raise Unusable("%s: %s" % (type(error).__name__, error)) from error


def for_pip(file, work, number):
    """The file, or what it is rewritten as."""
    if not is_pylock(file):
        return file
    try:
        lines = pylock_requirements(file)
    except Unusable as error:
        raise Unusable("cannot use %r: %s" % (file, error)) from error
    rewritten = os.path.join(work, "locked-%d.txt" % number)
    with open(rewritten, "w", encoding="utf-8") as opened:
        opened.writelines(line + "\n" for line in ["--require-hashes", *lines])
    return rewritten

