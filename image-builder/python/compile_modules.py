"""Compiles every module below a tree to bytecode that is never checked against its source.

usage: compile_modules.py TREE PREFIX PROCESSES COLUMNS FOLDER...

PREFIX stands for TREE in the bytecode, so that it doesn't depend on where the tree lay. The import
system puts the real path in when it loads a module.
COLUMNS is "lines" to leave out the columns that each instruction came from: they are a third of all
bytecode, and all that they do is draw "^^^^" under lines of the image's own modules in tracebacks.
"columns" keeps them.
Prints the number of compiled modules, then one line for each module that is no valid source.
"""

import importlib.machinery
import importlib.util
import marshal
import os
import sys
import types

UNCHECKED_HASH = b"\x01\x00\x00\x00"  # PEP 552


def varint(number):
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return encoded


def without_columns(code):
    """The same code with a table of lines only.

    The table's form is PyPy's own: for each instruction the line's distance from the first (plus 1,
    as LEB128), then a zero where there are no columns; a lone zero where there is no line either.
    Whoever reads the result has to see the same lines; where that isn't so (a version with another
    form), the code stays as it is.
    """
    constants = tuple(
        without_columns(item) if isinstance(item, types.CodeType) else item
        for item in code.co_consts
    )
    code = code.replace(co_consts=constants)
    lines = [position[0] for position in code.co_positions()]
    table = bytearray()
    for line in lines:
        if line is None:
            table.append(0)
        else:
            table += varint(line - code.co_firstlineno + 1)
            table.append(0)
    try:
        smaller = code.replace(co_linetable=bytes(table))
        same = [position[0] for position in smaller.co_positions()] == lines and list(
            smaller.co_lines()
        ) == list(code.co_lines())
    except Exception:
        return code
    return smaller if same else code


def modules(folders):
    for top in folders:
        for folder, folders_inside, files in os.walk(top):
            folders_inside[:] = sorted(f for f in folders_inside if f != "__pycache__")
            for name in sorted(files):
                if name.endswith(".py"):
                    yield os.path.join(folder, name)


def interned(value, alive):
    """The same constant with all its strings interned, and held in `alive`."""
    if isinstance(value, str):
        alive.append(sys.intern(value))
        return alive[-1]
    if isinstance(value, types.CodeType):
        return with_interned_strings(value, alive)
    if isinstance(value, tuple):
        return tuple(interned(item, alive) for item in value)
    if isinstance(value, frozenset):
        return frozenset([interned(item, alive) for item in value])
    return value


def with_interned_strings(code, alive):
    """The same code with every string interned.

    Bytecode says of each string whether it was interned, and refers back to those that were.
    Whether one happens to be depends on when garbage was collected: the same source would give
    different bytes. PyPy forgets an interned string that nobody holds, hence `alive`.
    """
    return code.replace(
        co_consts=interned(code.co_consts, alive),
        co_names=interned(code.co_names, alive),
        co_varnames=interned(code.co_varnames, alive),
        co_freevars=interned(code.co_freevars, alive),
        co_cellvars=interned(code.co_cellvars, alive),
        co_filename=interned(code.co_filename, alive),
        co_name=interned(code.co_name, alive),
        co_qualname=interned(code.co_qualname, alive),
    )


def compile_one(path, shown, columns):
    with open(path, "rb") as file:
        source = file.read()
    loader = importlib.machinery.SourceFileLoader("<image>", path)
    code = loader.source_to_code(source, shown)
    if not columns:
        code = without_columns(code)
    # With something else in it: of a list of nothing but strings PyPy keeps only the characters.
    alive = [None]
    code = with_interned_strings(code, alive)
    target = importlib.util.cache_from_source(path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + UNCHECKED_HASH)
        file.write(importlib.util.source_hash(source))
        file.write(marshal.dumps(code))


def compile_share(paths, tree, prefix, columns, errors):
    for path in paths:
        try:
            compile_one(path, prefix + path[len(tree):], columns)
        except (SyntaxError, ValueError):  # UnicodeError is a ValueError
            errors.write(path[len(tree) + 1:] + "\n")
    errors.flush()


def main():
    tree, prefix, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    columns = sys.argv[4] == "columns"
    paths = list(modules(sys.argv[5:]))
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
                    compile_share(paths[number::processes], tree, prefix, columns, errors)
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
