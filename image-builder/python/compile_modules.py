"""Compiles every module below a tree to bytecode that is never checked against its source.

usage: compile_modules.py TREE PREFIX PROCESSES FOLDER...

PREFIX stands for TREE in the bytecode, so that it doesn't depend on where the tree lay. The import
system puts the real path in when it loads a module.
Prints the number of compiled modules, then one line for each module that is no valid source.
"""

import os
import py_compile
import sys

UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def modules(folders):
    for top in folders:
        for folder, folders_inside, files in os.walk(top):
            folders_inside[:] = sorted(f for f in folders_inside if f != "__pycache__")
            for name in sorted(files):
                if name.endswith(".py"):
                    yield os.path.join(folder, name)


def compile_share(paths, tree, prefix, errors):
    for path in paths:
        shown = prefix + path[len(tree):]
        try:
            py_compile.compile(path, dfile=shown, doraise=True, invalidation_mode=UNCHECKED)
        except (py_compile.PyCompileError, ValueError, UnicodeError, SyntaxError):
            errors.write(path[len(tree) + 1:] + "\n")
    errors.flush()


def main():
    tree, prefix, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    paths = list(modules(sys.argv[4:]))
    # Large modules first, dealt out in turn: the processes end at about the same time.
    paths.sort(key=lambda path: (-os.path.getsize(path), path))
    children = []
    for number in range(processes):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            status = 1
            try:
                with os.fdopen(writer, "w") as errors:
                    compile_share(paths[number::processes], tree, prefix, errors)
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        children.append((child, reader))
    failed = []
    for child, reader in children:
        with os.fdopen(reader) as lines:
            failed += lines.read().splitlines()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            sys.exit("a compiling process ended with %d" % status)
    print(len(paths) - len(failed))
    for path in sorted(failed):
        print(path)


main()
