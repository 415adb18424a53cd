"""programs: five pure-Python programs, as whole processes and as rates inside a running one."""

import json
import random

from ..machine import SCRIPTS, Missing
from ..timing import measure, median

TITLE = "Programs"
CONTENDERS = ["original", "pyram", "cpython"]
ANSWERS = {"fibonacci": "75025", "sort": "", "sum": "2999997", "matrix": "", "strings": ""}


def run(bench):
    script = str(SCRIPTS / "programs.py")
    for contender in bench.contenders:
        contender.mount()
    for name, answer in ANSWERS.items():
        for _ in range(2 if bench.quick else 7):
            for contender in random.sample(bench.contenders, len(bench.contenders)):
                command = contender.warm([script, name, "once"])
                bench.command(f"{name}, whole process", contender, command)
                try:
                    sample = measure(command, answer)
                except Missing as reason:
                    bench.missing(f"{contender.name}: {name}", reason)
                    continue
                bench.add(f"{name}, whole process", contender, sample.seconds * 1000, "ms")
        if not bench.quick:
            for _ in range(3):
                for contender in random.sample(bench.contenders, len(bench.contenders)):
                    _rates(bench, contender, name, contender.warm([script, name, "repeat", "60"]))


def _rates(bench, contender, name, command):
    """The first time, which has all of the warm-up in it; the pace once warm (the last third);
    and how much longer than at that pace everything took, which is what warming up costs."""
    bench.command(f"{name}, in process", contender, command)
    times = json.loads(measure(command).output)
    pace = median(times[-len(times) // 3:])
    bench.add(f"{name}, first time", contender, times[0] * 1000, "ms")
    bench.add(f"{name}, once warm", contender, pace * 1000, "ms")
    bench.add(f"{name}, warm-up in all", contender,
              max(0.0, sum(times) - pace * len(times)) * 1000, "ms")
