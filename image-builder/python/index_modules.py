"""Writes the list of an image's modules that its import system reads (see image_startup.py).

usage: index_modules.py TREE TIME OUTPUT DIRECTORY...

TIME is the modification time that every file and directory of the image will have, in seconds. DIRECTORIES
are those on sys.path, below TREE.
"""

import importlib.machinery
import importlib.util
import marshal
import os
import sys

IMPORTABLE = tuple(importlib.machinery.all_suffixes())


def names_in(directory, directories, files):
    """What can be imported from a directory: plain modules, plain packages, and everything else.

    Plain is what has a source with bytecode and nothing beside it that could be meant too. The rest
    (extension modules, directories without __init__.py, sources that don't compile) is left to the
    import system's own ways.
    """

    def is_plain(path):
        return os.path.exists(importlib.util.cache_from_source(path))

    modules, packages, others = set(), set(), set()
    for name in files:
        module = name.partition(".")[0]
        if name == module + ".py" and is_plain(os.path.join(directory, name)):
            modules.add(module)
        elif name.endswith(IMPORTABLE):
            others.add(module)
    for name in directories:
        inside = [n for n in os.listdir(os.path.join(directory, name)) if n.endswith(IMPORTABLE)]
        initial = [n for n in inside if n.partition(".")[0] == "__init__"]
        if initial == ["__init__.py"] and is_plain(os.path.join(directory, name, "__init__.py")):
            packages.add(name)
        else:
            others.add(name)
    others |= modules & packages
    return modules - others, packages - others, others


def index(tree, tops):
    found = {}
    for top in tops:
        for directory, directories, files in os.walk(top):
            directories[:] = sorted(name for name in directories if name != "__pycache__")
            if any(name.endswith(".py") for name in files):
                kinds = names_in(directory, directories, files)
                found[os.path.relpath(directory, tree)] = tuple(
                    "\n".join(sorted(names)) for names in kinds
                )
    return found


def main():
    tree, time, output = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with open(output, "wb") as file:
        file.write(marshal.dumps((time, index(tree, sys.argv[4:]))))


main()
