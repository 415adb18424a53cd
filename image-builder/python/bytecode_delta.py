"""What turns a module's bytecode into that of -O or -OO; compile_modules.py uses it.

An image holds the plain bytecode whole. Of optimised bytecode it holds a delta: which pieces of the
plain bytes to keep, and what to put between them. So the result is exact by construction.

A delta is small if both have long pieces in common. marshal numbers the strings that it refers back
to, in the order of the stream: without a docstring all later numbers would be others. So both are
written with numbers that agree. Only what is referred to has a number, and where a string of the
plain bytecode is missing, another object takes the number without anybody referring to it.
"""

import bisect
import itertools
import marshal
import sys
import types

REFERENCED = 0x80  # In an object's type: it has a number.
SIZES = {"N": 0, "F": 0, "T": 0, "S": 0, ".": 0, "i": 4, "g": 8, "y": 16, "r": 4}
STRINGS = "suatA"
SHORT_STRINGS = "zZ"
INTERNED = (b"Z", b"A", b"t")
LARGEST = 0xFFFF  # Numbers in a delta have two bytes.
# What has to be the same after a difference, and how far away that may be.
ITEMS = (4, 60), (12, 1 << 30)
BYTES = (5, 1 << 30),


class Item:
    """A piece of a stream: an object without those inside it, or a number between objects."""

    __slots__ = ("kind", "content", "number", "refers")

    def __init__(self, kind, content, number, refers=None):
        self.kind, self.content, self.number, self.refers = kind, content, number, refers

    def text(self, referenced=False):
        if referenced:
            return bytes([self.kind[0] | REFERENCED]) + self.content
        return self.kind + self.content


def items_of(data, tables):
    """The items of marshal's output. `tables` is how many objects end a code object."""
    items, at, count = [], 0, 0

    def size_at(at):
        return int.from_bytes(data[at:at + 4], "little")

    def read():
        nonlocal at, count
        kind, number = data[at], None
        if kind & REFERENCED:
            kind, number = kind & ~REFERENCED, count
            count += 1
        letter = chr(kind)
        at += 1
        inside = 0
        if letter in SIZES:
            size = SIZES[letter]
        elif letter in STRINGS:
            size = 4 + size_at(at)
        elif letter in SHORT_STRINGS:
            size = 1 + data[at]
        elif letter == "l":
            size = 4 + 2 * abs(int.from_bytes(data[at:at + 4], "little", signed=True))
        elif letter == ")":
            size, inside = 1, data[at]
        elif letter in "([<>":
            size, inside = 4, size_at(at)
        elif letter == "c":
            size = 24
        else:
            raise ValueError("marshal's type %r is unknown" % letter)
        content = data[at:at + size]
        at += size
        if letter == "r":
            items.append(Item(b"r", content, None, int.from_bytes(content, "little")))
            return
        items.append(Item(bytes([kind]), content, number))
        if letter == "c":
            for _ in range(9):  # From the instructions to the qualified name.
                read()
            items.append(Item(b"", data[at:at + 4], None))  # The first line.
            at += 4
            inside = tables
        for _ in range(inside):
            read()

    read()
    if at != len(data):
        raise ValueError("marshal's output has another form")
    return items


def find_tables():
    """How many objects end a code object in this version's marshal; None for an unknown form."""
    sample = marshal.dumps(compile("def f(a):\n    b = a\n    return lambda: b", "f", "exec"))
    for tables in (1, 2):
        try:
            items_of(sample, tables)
            return tables
        except (ValueError, IndexError):
            pass
    return None


def is_string(item):
    return item.kind in INTERNED


def in_order(keys, places):
    """As many of the keys as can be, so that their places rise (longest rising subsequence)."""
    lowest, last, before = [], [], {}
    for key in keys:
        place = places.get(key)
        if place is not None:
            length = bisect.bisect_left(lowest, place)
            before[key] = last[length - 1] if length else None
            lowest[length:length + 1] = [place]
            last[length:length + 1] = [key]
    chosen, key = set(), last[-1] if last else None
    while key is not None:
        chosen.add(key)
        key = before[key]
    return chosen


def with_numbers(items, also, places=None):
    """The stream with numbers for what is referred to, and for the strings in `also`.

    With `places` (string -> number) a string has that number or none. One without is written whole
    wherever it is used; as it is interned, it is the same string all the same.
    Returns the stream, and the numbers of the strings.
    """
    needed = {item.refers for item in items if item.refers is not None}
    if places is not None:
        keys = [(item.kind, item.content) for item in items
                if item.number in needed and is_string(item)]
        chosen = in_order(keys, places)
        places = {key: place for key, place in places.items() if key in chosen}
    pieces, spare, numbers, whole, found = [], [], {}, {}, {}
    count = 0
    for item in items:
        if item.refers is not None:
            if item.refers in whole:
                pieces.append(whole[item.refers])
            else:
                pieces.append(b"r" + numbers[item.refers].to_bytes(4, "little"))
            continue
        key = (item.kind, item.content)
        wanted = item.number is not None and (item.number in needed or key in also)
        if wanted and places is not None and is_string(item):
            place = places.get(key, -1)
            if 0 <= place - count <= len(spare):
                for at in spare[:place - count]:
                    pieces[at] = bytes([pieces[at][0] | REFERENCED]) + pieces[at][1:]
                count = place
            if place != count:
                whole[item.number] = item.text()
                wanted = False
        if wanted:
            numbers[item.number] = found[key] = count
            count += 1
            spare.clear()
        elif item.kind:
            spare.append(len(pieces))
        pieces.append(item.text(wanted))
    return b"".join(pieces), found


def same(one, other):
    """Whether two constants are the same in all that a program can see."""
    if type(one) is not type(other):
        return False
    if isinstance(one, types.CodeType):
        return all(
            same(getattr(one, name), getattr(other, name))
            for name in dir(one)
            if name.startswith("co_") and not callable(getattr(one, name))
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    return repr(one) == repr(other)  # Tells 0.0 from -0.0, and one not-a-number from none.


def agreeing(streams, tables):
    """The same code in streams whose numbers agree with those of the first."""
    if tables is None:
        return streams
    try:
        items = [items_of(stream, tables) for stream in streams]
    except (ValueError, IndexError):
        return streams
    used = set()
    for stream in items:
        needed = {item.refers for item in stream if item.refers is not None}
        used.update((item.kind, item.content) for item in stream
                    if item.number in needed and is_string(item))
    first, places = with_numbers(items[0], used)
    written = [first] + [with_numbers(stream, (), places)[0] for stream in items[1:]]
    for before, after in zip(streams, written):
        if not same(marshal.loads(before), marshal.loads(after)):
            return streams
    return written


def aligned(old, new, lengths):
    """Where two sequences are the same, in order: (begin in old, begin in new, how much).

    `lengths` says how much has to be the same after a difference, and how far away that may be.
    """
    indices = []
    for length, reach in lengths:
        places = {}
        for at in range(len(old) - length + 1):
            places.setdefault(old[at:at + length], []).append(at)
        indices.append((length, reach, places))
    i = j = 0
    while True:
        begin = i
        while i < len(old) and j < len(new) and old[i] == new[j]:
            i += 1
            j += 1
        yield begin, j - (i - begin), i - begin
        # The cheapest way on to where both are the same again.
        best, cost, put = None, len(new), 0
        while put < cost and j + put < len(new):
            for length, reach, places in indices:
                found = places.get(new[j + put:j + put + length], ())
                nearest = bisect.bisect_left(found, i)
                if nearest < len(found):
                    leave = found[nearest] - i
                    price = put + abs(leave - put) // 16
                    if leave <= reach and price < cost:
                        best, cost = (leave, put), price
            put += 1
        if best is None:
            return
        i += best[0]
        j += best[1]


def offsets(texts):
    return [0, *itertools.accumulate(map(len, texts))]


def same_pieces(old, new, tables):
    """As aligned(), for the bytes of two streams: first by whole items, then inside of those."""
    try:
        texts = [
            tuple(item.text(item.number is not None) for item in items_of(stream, tables))
            for stream in (old, new)
        ]
    except (TypeError, ValueError, IndexError):
        texts = [(old,), (new,)]
    starts = [offsets(pieces) for pieces in texts]
    whole = [(starts[0][i], starts[1][j], starts[0][i + n] - starts[0][i])
             for i, j, n in aligned(*texts, ITEMS)]
    i = j = 0
    for begin, at, length in [*whole, (len(old), len(new), 0)]:
        for one, other, size in aligned(old[i:begin], new[j:at], BYTES):
            yield i + one, j + other, size
        yield begin, at, length
        i, j = begin + length, at + length


def differences(old, new, tables):
    """(how much to keep of old, how much to leave out, what to put in), in order."""
    keep, i, j = 0, 0, 0  # So much is kept, up to i and j.
    for begin, at, length in same_pieces(old, new, tables):
        if length and (begin, at) != (i, j):
            yield keep, begin - i, new[j:at]
            keep, i, j = 0, begin, at
        keep, i, j = keep + length, i + length, j + length
    yield keep, 0, new[j:]


def in_steps(keep, leave, text):
    """The same difference in such steps that each number is small enough."""
    while keep > LARGEST:
        yield LARGEST, 0, b""
        keep -= LARGEST
    while leave > LARGEST:
        yield keep, LARGEST, b""
        keep, leave = 0, leave - LARGEST
    while len(text) > LARGEST:
        yield keep, leave, text[:LARGEST]
        keep, leave, text = 0, 0, text[LARGEST:]
    yield keep, leave, text


def make_delta(old, new, tables):
    """The numbers and texts that with_delta() makes new of."""
    edges, lengths, texts = bytearray(), bytearray(), bytearray()
    for difference in differences(old, new, tables):
        for keep, leave, text in in_steps(*difference):
            edges += keep.to_bytes(2, sys.byteorder) + leave.to_bytes(2, sys.byteorder)
            lengths += len(text).to_bytes(2, sys.byteorder)
            texts += text
    delta = bytes(edges), bytes(lengths), bytes(texts)
    if with_delta(old, *delta) != new:
        raise AssertionError("a delta gives other bytecode")
    return delta


def with_delta(old, edges, lengths, texts):
    edges = list(itertools.accumulate(memoryview(edges).cast("H"), initial=0))
    cuts = list(itertools.accumulate(memoryview(lengths).cast("H"), initial=0))
    kept = map(old.__getitem__, map(slice, edges[0::2], edges[1::2]))
    put = map(texts.__getitem__, map(slice, cuts, cuts[1:]))
    return b"".join(itertools.chain.from_iterable(zip(kept, put)))


def all_deltas(deltas):
    """The file that image_startup.py reads, of {path: (head, *delta)}.

    The numbers of all modules stand together, and their texts: they compress better. For each module
    it has the first bytes of its source's hash, its first number, how many, and its first text.
    """
    places, edges, lengths, texts = {}, bytearray(), bytearray(), bytearray()
    for path in sorted(deltas):
        head, some_edges, some_lengths, some_texts = deltas[path]
        places[path] = head, len(lengths) // 2, len(some_lengths) // 2, len(texts)
        edges += some_edges
        lengths += some_lengths
        texts += some_texts
    # Version 2: its output doesn't depend on which objects are the same.
    return marshal.dumps((places, bytes(edges), bytes(lengths), bytes(texts)), 2)
