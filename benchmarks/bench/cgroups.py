"""Groups of processes with a slow disk, half a core or little memory: cgroups, version 1 or 2.

A command enters the group through its own shell before anything is mounted, so that a FUSE
daemon, being its child, is in the group as well. Kernel mounts read through a loop device, whose
worker the kernel charges to the group that asked; verify() shows that by counting."""

import contextlib
import shlex
import time
from pathlib import Path

from .machine import WORK, Missing, disk_of, limits, sh
from .timing import Command

BASE = Path("/sys/fs/cgroup")
V2 = (BASE / "cgroup.controllers").exists()
_FILES = {  # what is set: (controller, file of version 1, file of version 2)
    "read_bps": ("blkio", "blkio.throttle.read_bps_device", "io.max"),
    "cpu": ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.max"),
}


class Group:
    """A cgroup that exists from __enter__ to __exit__, one directory per controller in version 1.

    `settings`: read_bps in bytes a second, cpu in cores, memory in bytes. `first` and `last` are
    the shell commands that make it and take it away, for whoever repeats a run by hand."""

    def __init__(self, name, controllers, **settings):
        if "cgroups" in limits():
            raise Missing(limits()["cgroups"])
        name = f"pyram-bench-{name}"
        if V2:
            available = (BASE / "cgroup.subtree_control").read_text().split()
            absent = [c for c in controllers if {"blkio": "io"}.get(c, c) not in available]
            self.directories = {controller: BASE / name for controller in controllers}
        else:
            absent = [c for c in controllers if not (BASE / c / "cgroup.procs").exists()]
            self.directories = {controller: BASE / controller / name for controller in controllers}
        if absent:
            raise Missing(f"the cgroup controllers {', '.join(absent)} are not available here")

        directories = sorted({str(directory) for directory in self.directories.values()})
        self.first = [f"mkdir {directory}" for directory in directories]
        self.first += [f"echo {shlex.quote(_written(what, value))} >{self._file(what)}"
                       for what, value in settings.items()]
        self.last = [f"rmdir {directory}" for directory in directories]

    def _file(self, what):
        controller, old, new = _FILES[what]
        return self.directories[controller] / (new if V2 else old)

    def __enter__(self):
        for directory in set(self.directories.values()):
            with contextlib.suppress(OSError):  # of a run that was killed
                directory.rmdir()
        sh("; ".join(["set -e", *self.first]))
        return self

    def __exit__(self, *_):
        for directory in set(self.directories.values()):
            for _ in range(200):  # a daemon that was just told to go needs a moment to be gone
                with contextlib.suppress(OSError):
                    directory.rmdir()
                    break
                time.sleep(0.02)

    def inside(self, command):
        """The command, entering the group first."""
        entries = " && ".join(f"echo $$ > {directory}/cgroup.procs"
                              for directory in sorted(set(self.directories.values())))
        return Command(f"{entries} && {command.script}", command.environment)

    def bytes_read(self):
        """What the group's processes had read from our disk so far."""
        directory, disk = self.directories["blkio"], disk_of(WORK)
        if V2:
            for line in (directory / "io.stat").read_text().splitlines():
                if line.startswith(disk + " "):
                    return int(dict(p.split("=") for p in line.split()[1:])["rbytes"])
            return 0
        for line in (directory / "blkio.throttle.io_service_bytes").read_text().splitlines():
            if line.startswith(f"{disk} Read"):
                return int(line.split()[2])
        return 0

    def memory(self):
        """Bytes charged to the group now: all of them, and by kind."""
        directory = self.directories["memory"]
        stat = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
        if V2:
            used = int((directory / "memory.current").read_text())
            kinds = {"private": int(stat["anon"]), "page cache": int(stat["file"])
                     - int(stat["shmem"]), "tmpfs": int(stat["shmem"]),
                     "kernel": int(stat.get("kernel", 0))}
        else:
            used = int((directory / "memory.usage_in_bytes").read_text())
            shmem = int(stat.get("shmem", 0))
            kinds = {"private": int(stat["rss"]), "page cache": int(stat["cache"]) - shmem,
                     "tmpfs": shmem,
                     "kernel": int((directory / "memory.kmem.usage_in_bytes").read_text())}
        return used, kinds

    def peak(self):
        name = "memory.peak" if V2 else "memory.max_usage_in_bytes"
        with contextlib.suppress(OSError):
            return int((self.directories["memory"] / name).read_text())
        return 0

    def reset_peak(self):
        name = "memory.peak" if V2 else "memory.max_usage_in_bytes"
        with contextlib.suppress(OSError):
            (self.directories["memory"] / name).write_text("0")


def _written(what, value):
    """What sets it, as the kernel wants it to be written."""
    if what == "read_bps":
        return f"{disk_of(WORK)} {'rbps=' if V2 else ''}{value}"
    if what == "cpu":
        return f"{int(value * 100000)}{' 100000' if V2 else ''}"
    return str(value)


def disk_bytes_read():
    """What the whole machine had read from our disk so far, once nothing is under way any more
    (a throttled group's read-ahead goes on after the command has ended)."""
    stat = Path("/sys/dev/block") / disk_of(WORK) / "stat"
    last = -1
    while last != (now := int(stat.read_text().split()[2])):
        last = now
        time.sleep(0.5)
    return now * 512
