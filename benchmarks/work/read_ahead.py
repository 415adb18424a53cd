"""read_ahead.py ROOT: asks the kernel to read what ROOT's hot list names, in its order."""

import os
import sys

root = sys.argv[1]
files = {}
with open(root + "/.pyram/hot", encoding="utf-8", errors="surrogateescape") as hot:
    next(hot)
    for line in hot:
        if line.startswith("group "):
            continue
        offset, length, path = line.rstrip("\n").split(" ", 2)
        if path not in files:
            files[path] = os.open(root + "/" + path, os.O_RDONLY)
        os.posix_fadvise(files[path], int(offset), int(length), os.POSIX_FADV_WILLNEED)
