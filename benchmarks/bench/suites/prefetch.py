"""prefetch: ways to have a start's bytes in memory before it asks: what the daemon's way was chosen
by. Each is the same daemon, mounted for one cold start."""

import copy
import json
import subprocess

from ..machine import SCRIPTS, Missing, drop_caches, limits
from ..timing import measure

TITLE = "Ways to prefetch"
CONTENDERS = ["original", "pyram-mount"]

WORK = {
    "pass": (["-c", "pass"], None),
    "django": ([str(SCRIPTS / "django_page.py")], "1,2,3,4"),
}
# What the daemon is told, and whether a process of its own asks the kernel to read the hot list's
# ranges of the mounted files, as a launcher could.
WAYS = {
    "none": ("--prefetch none", False),
    "readahead": ("--prefetch none", True),
    "store": ("", False),
    "store, 1 thread": ("--threads 1", False),
    "store, 4 threads": ("--threads 4", False),
}


def _way(contender, name, options, asks):
    way = copy.copy(contender)
    way.name = name
    script = " ".join(filter(None, [str(contender.program), options, str(contender.image),
                                    str(contender.mountpoint)]))
    if asks:
        ask = SCRIPTS / "read_ahead.py"
        script += f" && {{ /usr/bin/python3 -SE {ask} {contender.mountpoint} & }}"
    way.mount_script = lambda: script
    return way


def _counts(contender):
    said = subprocess.run([str(contender.program), "--status", str(contender.mountpoint), "--format",
                           "json"], capture_output=True, check=True, text=True).stdout
    return json.loads(said)


def run(bench):
    if "caches" in limits():
        bench.missing("cold starts", limits()["caches"])
        return
    original = [c for c in bench.contenders if c.name == "original"]
    ours = [c for c in bench.contenders if c.name == "pyram-mount"]
    if not ours:
        raise Missing("pyram-mount")
    field = original + [_way(ours[0], name, *way) for name, way in WAYS.items()]
    bench.by_hand("", ["# after each, and before the next (busy while something reads ahead): "
                       f"{ours[0].unmount_script()}"])
    for work, (arguments, expect) in list(WORK.items())[:1 if bench.quick else None]:
        _tried(bench, field, work, arguments, expect)


def _tried(bench, field, work, arguments, expect):
    title = f"cold {work}"

    def one(contender):
        contender.unmount()
        drop_caches()
        try:
            sample = measure(contender.cold(arguments), expect)
            bench.add(title, contender, sample.seconds * 1000, "ms")
            if contender.name in WAYS:
                said = _counts(contender)
                for what, counter in (("requests", "requests"), ("READs", "requests_read")):
                    bench.add(f"{what} of a {title}", contender, int(said[counter]), "requests")
        finally:
            contender.unmount()

    for contender in field:
        bench.command(title, contender, contender.cold(arguments))
    bench.tried(title, field, 2 if bench.quick else 15, one, [title])
