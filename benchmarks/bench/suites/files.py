"""files: the mounted tree as a file system: read whole, read at random, listed, looked up."""

import json
import os
import shlex
import subprocess

from ..machine import Missing, drop_caches, limits, need
from ..timing import Command, measure

TITLE = "File system"
CONTENDERS = ["original", "same", "squashfs", "erofs", "squashfuse_ll",
              "squashfuse_ll-new", "pyram-mount"]

RANDOM = "cold: random 4 KiB reads, 4 jobs"
_MISSING_NAMES = """
import os, sys
for n in range(10000):
    try:
        os.stat("%s/lib/python3/no-such-module-%d.py" % (sys.argv[1], n))
    except FileNotFoundError:
        pass
"""


def _works(root):
    """{work: shell command} on the tree under root."""
    place = shlex.quote(str(root))
    names = f"/usr/bin/python3 -S -E -c {shlex.quote(_MISSING_NAMES)} {place}"
    return {
        "whole tree, 1 reader": f"find {place} -type f -print0 | xargs -0 -n 64 cat >/dev/null",
        "whole tree, 2 readers":
            f"find {place} -type f -print0 | xargs -0 -n 64 -P 2 cat >/dev/null",
        "whole tree, 4 readers":
            f"find {place} -type f -print0 | xargs -0 -n 64 -P 4 cat >/dev/null",
        "whole tree, 8 readers":
            f"find {place} -type f -print0 | xargs -0 -n 64 -P 8 cat >/dev/null",
        "find": f"find {place} >/dev/null",
        "stat of every file": f"find {place} -printf '%s %T@\\n' >/dev/null",
        "10,000 missing names": names,
    }


def run(bench):
    if "caches" in limits():
        raise Missing(limits()["caches"])
    # Each tree against the driver of the same files: the original has others than the image.
    few = ("same", "squashfs", "pyram-mount")
    field = [c for c in bench.contenders if c.name in few or not bench.quick]
    bench.by_hand("", ["# each with its tree freshly mounted: cold with the caches dropped before "
                       "that, warm after a cold one"])
    for work in _works("/"):
        if not (bench.quick and work.endswith(("1 reader", "4 readers", "8 readers"))):
            _tried(bench, field, _shell_work, work, f"cold: {work}", f"warm: {work}")
    _tried(bench, field, _fio, RANDOM, RANDOM)


def _tried(bench, field, measured, work, *names):
    """Each try with the tree freshly mounted and cold."""

    def one(contender):
        try:
            contender.unmount()  # also forgets what the kernel knows of a FUSE mount's files
            drop_caches()
            contender.mount()
            measured(bench, contender, work)
        finally:
            contender.unmount()

    bench.tried(work, field, 1 if bench.quick else 5, one, names)


def _shell_work(bench, contender, work):
    """Once cold, and then warm."""
    script = Command(_works(contender.root())[work])
    for state in ("cold", "warm"):
        bench.command(f"{state}: {work}", contender, script)
    bench.add(f"cold: {work}", contender, measure(script).seconds * 1000, "ms")
    if work.startswith("10,000"):
        measure(script)  # the interpreter that looks for them
    for _ in range(1 if bench.quick else 3):
        bench.add(f"warm: {work}", contender, measure(script).seconds * 1000, "ms")


def _fio(bench, contender, work):
    """Random 4 KiB reads of the interpreter's library by four jobs, each byte once."""
    reads = 2000 if bench.quick else 6000
    command = [need("fio"), "--name=random", f"--filename={_library(contender.root())}",
               "--readonly", "--allow_file_create=0", "--rw=randread", "--bs=4k", "--numjobs=4",
               "--thread",
               f"--number_ios={reads}", "--randseed=7", "--ioengine=psync", "--invalidate=0",
               "--group_reporting", "--output-format=json"]
    bench.command(work, contender, shlex.join(command))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"fio failed: {done.stderr.strip()[:200]}")
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["read"]
    bench.add(work, contender, job["runtime"], "ms")


def _library(root):
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            if name.startswith("libpypy3") and name.endswith(".so") and not os.path.islink(path):
                return path
    raise Missing(f"no libpypy3*.so below {root}")
