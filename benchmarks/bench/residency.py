"""Who holds which memory: page cache of files (mincore) and of processes (smaps_rollup)."""

import ctypes
import os
import stat
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                       ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_PROT_READ, _MAP_SHARED = 1, 1


def cached(path):
    """Bytes of that file or block device in the page cache. Looking brings nothing into it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return 0
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        if size == 0:
            return 0
        address = _libc.mmap(None, size, _PROT_READ, _MAP_SHARED, handle, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            return 0
        pages = (size + _PAGE - 1) // _PAGE
        states = ctypes.create_string_buffer(pages)
        failed = _libc.mincore(address, size, states)
        _libc.munmap(address, size)
        return 0 if failed else sum(byte & 1 for byte in states.raw[:pages]) * _PAGE
    finally:
        os.close(handle)


def cached_tree(root):
    """Bytes of all regular files below a directory in the page cache, each inode once."""
    seen, total = set(), 0
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and found.st_ino not in seen:
                seen.add(found.st_ino)
                total += cached(path)
    return total


def loop_device_of(image):
    """The loop device that serves an image file, or None."""
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        if device.read_text().strip() == str(image):
            return Path("/dev") / device.parts[3]
    return None


def process(pid):
    """Of one process, in bytes: its own ("anonymous"), its proportional share, its peak."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {"anonymous": 0, "pss": 0, "peak": 0}
    rollup = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    peak = next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")), 0)
    return {"anonymous": rollup.get("Anonymous", 0), "pss": rollup.get("Pss", 0), "peak": peak}
