"""Compiles every module below a tree to bytecode that is never checked against its source.

usage: compile_modules.py TREE PREFIX PROCESSES COLUMNS DELTAS DIRECTORY...

PREFIX stands for TREE in the bytecode, so that it doesn't depend on where the tree lay. The import
system puts the real path in when it loads a module.
COLUMNS is "lines" to leave out the columns that each instruction came from: they are a third of all
bytecode, and all that they do is draw "^^^^" under lines of the image's own modules in tracebacks.
"columns" keeps them.
DELTAS is a file's name: DELTAS-1 and DELTAS-2 are written, with what makes the bytecode of -O and -OO
of the plain bytecode; a module that isn't in them has the same bytecode. bytecode_delta.py, which is
put before this program, knows their form.
Prints the number of compiled modules, then one line for each module that is no valid source.
"""

import importlib.util
import marshal
import os
import sys
import types

UNCHECKED_HASH = b"\x01\x00\x00\x00"  # PEP 552
LEVELS = (1, 2)  # Of -O and -OO.

# What a start imports before image_startup.py has read the deltas. It has optimised bytecode of its own.
EARLY = "/encodings/__init__.py", "/encodings/aliases.py", "/codecs.py"


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


def modules(directories):
    for top in directories:
        for directory, directories_inside, files in os.walk(top):
            directories_inside[:] = sorted(f for f in directories_inside if f != "__pycache__")
            for name in sorted(files):
                if name.endswith(".py"):
                    yield os.path.join(directory, name)


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


def compiled(source, shown, columns, level):
    code = compile(source, shown, "exec", dont_inherit=True, optimize=level)
    if not columns:
        code = without_columns(code)
    # With something else in it: of a list of nothing but strings PyPy keeps only the characters.
    alive = [None]
    code = with_interned_strings(code, alive)
    return marshal.dumps(code)


def write_bytecode(path, optimization, head, stream):
    target = importlib.util.cache_from_source(path, optimization=optimization)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + UNCHECKED_HASH)
        file.write(head)
        file.write(stream)


def compile_one(path, shown, columns, tables):
    """Writes the plain bytecode; returns the deltas of the levels that differ from it."""
    with open(path, "rb") as file:
        source = file.read()
    streams = agreeing([compiled(source, shown, columns, level) for level in (0, *LEVELS)], tables)
    head = importlib.util.source_hash(source)
    write_bytecode(path, "", head, streams[0])
    if path.endswith(EARLY):
        for level, stream in zip(LEVELS, streams[1:]):
            write_bytecode(path, level, head, stream)
    return {
        level: (head[:4], *make_delta(streams[0], stream, tables))
        for level, stream in zip(LEVELS, streams[1:])
        if stream != streams[0]
    }


def compile_share(paths, tree, prefix, columns):
    """What became of each path: its deltas, or None where it is no valid source."""
    tables = find_tables()
    result = {}
    for path in paths:
        inside = path[len(tree) + 1:]
        try:
            result[inside] = compile_one(path, prefix + "/" + inside, columns, tables)
        except (SyntaxError, ValueError):  # UnicodeError is a ValueError
            result[inside] = None
    return result


def main():
    tree, prefix, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    columns, deltas = sys.argv[4] == "columns", sys.argv[5]
    paths = list(modules(sys.argv[6:]))
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
                with os.fdopen(writer, "wb") as answer:
                    share = paths[number::processes]
                    answer.write(marshal.dumps(compile_share(share, tree, prefix, columns)))
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        children.append((child, reader))
    result = {}
    for child, reader in children:
        with os.fdopen(reader, "rb") as answer:
            data = answer.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            sys.exit("a compiling process ended with %d" % status)
        result.update(marshal.loads(data))
    for level in LEVELS:
        found = {path: of[level] for path, of in result.items() if level in (of or ())}
        with open("%s-%d" % (deltas, level), "wb") as file:
            file.write(all_deltas(found))
    failed = sorted(path for path in result if result[path] is None)
    print(len(paths) - len(failed))
    for path in failed:
        print(path)


main()
