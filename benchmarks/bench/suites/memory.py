"""memory: what a start costs in all, while the interpreter lives: its own memory, the page cache
of tree and image, the daemon. Two ways of counting that have to agree: the parts one by one
(smaps, mincore), and the cgroup's own figure."""

import os
import subprocess
import time

from ..cgroups import V2, Group
from ..machine import SCRIPTS, Missing, drop_caches, limits
from ..residency import cached, cached_tree, loop_device_of, process

TITLE = "Memory"
CONTENDERS = ["original", "same", "squashfs", "erofs", "squashfuse_ll", "pyram", "extraction",
              "ancestor", "cpython"]

WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"
DJANGO = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import django_page; {WAIT}"
KINDS = {"pass": (WAIT, 1), "django": (DJANGO, 1), "20 processes": (WAIT, 20),
         "20 django processes": (DJANGO, 20)}
QUICK = {"pass": ("original", "squashfs", "erofs", "squashfuse_ll", "pyram", "cpython"),
         "django": ("original", "pyram"), "20 processes": (), "20 django processes": ()}


def run(bench):
    for what in ("caches", "cgroups"):
        if what in limits():
            raise Missing(limits()[what])
    bench.matrix = True
    group = Group("memory", ["memory"])
    figures = "memory.current memory.stat" if V2 else "memory.usage_in_bytes memory.stat"
    bench.by_hand("", [*group.first,
                       "# each ends at the end of its input; what it takes by then, in another "
                       f"shell: (cd {group.directories['memory']} && cat {figures})"], group.last)
    bench.note("the page cache of an image behind a loop device is charged to no group (cgroups "
               "version 1), so that kernel mounts cost more than their group shows")
    for turn in range(1 if bench.quick else 3):
        for kind, (code, count) in KINDS.items():
            for contender in bench.contenders:
                if bench.quick and contender.name not in QUICK[kind]:
                    continue
                if count > 1 and contender.name == "ancestor":
                    bench.missing(f"{contender.name}: memory of {kind}",
                                  "a second start removes what the first one runs from")
                    continue
                try:
                    _one(bench, contender, kind, code, count, turn)
                except (Missing, OSError) as reason:
                    bench.missing(f"{contender.name}: memory of {kind}", reason)
                finally:
                    contender.unmount()


def _one(bench, contender, kind, code, count, turn):
    contender.unmount()
    drop_caches()
    with Group("memory", ["memory"]) as group:
        first = group.inside(contender.cold(["-c", code]))
        more = group.inside(contender.warm(["-c", code]))
        bench.command(f"memory of {kind}", contender, first)
        if count > 1:
            bench.command(f"memory of {kind}: each of the others", contender, more)
        waiting = []
        try:
            waiting.append(_start(first))
            _ready(waiting[0])  # and so mounted
            waiting += [_start(more) for _ in range(count - 1)]
            for child in waiting[1:]:
                _ready(child)
            time.sleep(0.5)  # a prefetch may still be on its way, and daemons give memory back
            _count(bench, contender, kind, group, turn)
        finally:
            for child in waiting:
                child.stdin.close()
            for child in waiting:
                child.wait()
                child.stdout.close()
        if contender.name == "pyram" and kind == "django":
            _idle_daemon(bench, group)
        contender.unmount()


def _start(command):
    return command.started(stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)


def _ready(child):
    while line := child.stdout.readline():
        if line.strip() == b"ready":
            return
    raise Missing(f"the interpreter ended with {child.wait()} before it was ready")


def _members(group):
    directory = group.directories["memory"]
    return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]


def _is_daemon(pid):
    try:
        program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False
    return program in ("pyram-mount", "squashfuse_ll")


def _is_shell(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) in ("dash", "bash", "sh")
    except OSError:
        return True


def _count(bench, contender, kind, group, turn):
    used, kinds = group.memory()
    peak = group.peak()
    members = [pid for pid in _members(group) if not _is_shell(pid)]
    daemons = [pid for pid in members if _is_daemon(pid)]
    parts = {
        "private": sum(process(pid)["anonymous"] for pid in members if pid not in daemons),
        "daemon": sum(process(pid)["anonymous"] for pid in daemons),
        "kernel": kinds["kernel"],
    }
    pss = sum(process(pid)["pss"] for pid in daemons)
    image = getattr(contender, "image", None)
    parts["image"] = cached(image) if image else 0
    loop = loop_device_of(image) if image else None
    uncharged = 0
    if loop:
        parts["image"] += cached(loop)
        uncharged = 0 if V2 else parts["image"]
    parts["programs"] = sum(
        cached(p) for p in (getattr(contender, "program", ""), getattr(contender, "daemon", ""))
        if p)
    if contender.root():
        # Last, since looking at every file costs the kernel and the daemon memory.
        parts["tree"] = cached_tree(contender.root())
    elif contender.name != "cpython":
        parts["tree"] = kinds["tmpfs"]
    if contender.name == "squashfs":
        # It keeps compressed pieces in a mapping that belongs to no file: what is left over.
        parts["hidden"] = max(0, used + uncharged - sum(parts.values()))
    mib = 1 << 20
    bench.add(f"{kind}: all", contender, (used + uncharged) / mib, "MiB")
    for part, value in parts.items():
        bench.add(f"{kind}: {part}", contender, value / mib, "MiB")
    if contender.name != "cpython":
        counted = sum(parts.values())
        bench.add(f"{kind}: sum", contender, counted / mib, "MiB")
        off = counted / (used + uncharged) - 1
        if turn == 0 and abs(off) > 0.1:
            bench.note(f"{kind}, {contender.name}: the parts sum up to {counted / mib:.1f} MiB, "
                       f"the cgroup says {used / mib:.1f} MiB ({off * 100:+.0f}%): DISAGREE")
    bench.add(f"{kind}: peak", contender, peak / mib, "MiB")
    if daemons:
        bench.add(f"{kind}: daemon's PSS", contender, pss / mib, "MiB")


def _idle_daemon(bench, group):
    """The daemon alone, after what it read ahead is read and its caches had time to shrink."""
    daemons = [pid for pid in _members(group) if _is_daemon(pid)]
    bench.add("daemon: peak resident", "pyram", sum(process(p)["peak"] for p in daemons) / 2**20,
              "MiB")
    time.sleep(6)
    bench.add("daemon: PSS, idle", "pyram", sum(process(p)["pss"] for p in daemons) / 2**20,
              "MiB")
