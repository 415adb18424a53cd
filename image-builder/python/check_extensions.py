"""Finds packages whose extension modules this interpreter cannot load.

usage: check_extensions.py TREE FILES

FILES is a JSON file, of [package, version, path in TREE] for each file that could be an extension module.
Prints a JSON list with one line of text for each package that has a module which does not load.

Only what the dynamic loader says counts, such as a symbol that this PyPy lacks. A module that Python code
refuses (what it needs is optional, or on another machine) is no news to a person who builds.
"""

import ctypes
import importlib
import importlib.machinery
import json
import os
import re
import sys

SITE = re.compile(r".*/(?:site|dist)-packages/")

# What loads where the newest does not, for packages that many ask for.
LACKING = "PyPyModule_FromDefAndSpec2"  # Of PyPy 7.3.20.
OLDER = {"cryptography": "cryptography<47", "pydantic-core": "pydantic<2.14"}


def loader_failure(path):
    """What the dynamic loader says against a file, or None."""
    try:
        ctypes.CDLL(path, os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        # "Cannot load library PATH: PATH: REASON"
        return str(error).rpartition(path + ": ")[2]
    return None


def failure(tree, path):
    """Why a module does not load, or None."""
    full = os.path.join(tree, path)
    if loader_failure(full) is None:
        return None
    # A package may load what its modules need before it imports them.
    name = SITE.sub("", path)
    name = name[:name.index(".", name.rfind("/") + 1)].replace("/", ".")
    try:
        importlib.import_module(name)
    except BaseException:
        return loader_failure(full)
    return None


def in_child(tree, path):
    """The same, of a process of its own: what is loaded may end it, and stays loaded."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            os.write(writer, (failure(tree, path) or "").encode()[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        reason = answer.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "signal %d ended the process that loaded it" % -status if status < 0 else reason


def main():
    tree = sys.argv[1]
    with open(sys.argv[2], encoding="utf-8") as file:
        modules = json.load(file)
    pypy = "PyPy %d.%d.%d" % sys.pypy_version_info[:3]
    told = {}
    for package, version, path in modules:
        if package in told or not path.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            continue
        reason = in_child(tree, path)
        if not reason:
            continue
        plain = re.sub(r"[-_.]+", "-", package).lower()
        older = "%s<%s" % (plain, version)
        if LACKING in reason:
            older = OLDER.get(plain, older)
        told[package] = "%s %s does not load on %s: %s: %s; ask for an older one, such as '%s'" % (
            package, version, pypy, path, " ".join(reason.split()), older)
    json.dump(list(told.values()), sys.stdout)


main()
