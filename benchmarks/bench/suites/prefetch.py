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
    script = f"{contender.program} {options} {contender.image} {contender.mountpoint}"
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
    for work, (arguments, expect) in WORK.items():
        for contender in field:
            bench.command(f"cold {work}", contender, contender.cold(arguments))
        for turn in bench.rounds(3 if bench.quick else 15, f"cold {work}"):
            for contender in bench.shuffled(field, turn):
                contender.unmount()
                drop_caches()
                sample = measure(contender.cold(arguments), expect)
                bench.add(f"cold {work}", contender, sample.seconds * 1000, "ms")
                if contender not in original:
                    said = _counts(contender)
                    bench.add(f"requests of a cold {work}", contender, int(said["requests"]),
                              "requests")
                    bench.add(f"READs of a cold {work}", contender, int(said["requests_read"]),
                              "requests")
                contender.unmount()
