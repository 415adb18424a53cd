"""programs: five pure-Python programs, as whole processes, short ones and of some seconds, and as
rates inside a running one."""

import json

from ..machine import SCRIPTS
from ..timing import measure, median

TITLE = "Programs"
CONTENDERS = ["original", "pyram", "cpython"]
ROUNDS = 100  # some seconds in CPython
ANSWERS = {"fibonacci": "75025", "sort": "", "sum": "2999997", "matrix": "", "strings": ""}


def run(bench):
    script = str(SCRIPTS / "programs.py")
    for contender in bench.contenders:
        contender.mount()
        measure(contender.warm(["-c", "pass"]))  # fills the caches
    for name, answer in ANSWERS.items():
        _whole(bench, script, name, answer)
        _long(bench, script, name)
        if not bench.quick:
            bench.tried(f"{name}, in process", bench.contenders, 3,
                        lambda c: _rates(bench, c, name, c.warm([script, name, "repeat", "60"])),
                        [f"{name}, {what}" for what in ("first time", "once warm")])


def _whole(bench, script, name, answer):
    title = f"{name}, whole process"

    def one(contender):
        command = contender.warm([script, name, "once"])
        bench.command(title, contender, command)
        bench.add(title, contender, measure(command, answer).seconds * 1000, "ms")

    bench.tried(name, bench.contenders, 2 if bench.quick else 7, one, [title])


def _long(bench, script, name):
    """A process that lasts for seconds, as a person waits for it."""
    title = f"{name}, {ROUNDS} rounds"

    def one(contender):
        command = contender.warm([script, name, "repeat", str(ROUNDS)])
        bench.command(title, contender, command)
        bench.add(title, contender, measure(command).seconds, "s")

    bench.tried(title, bench.contenders, 1 if bench.quick else 5, one, [title])


def _rates(bench, contender, name, command):
    """The first time, which has most of the warm-up in it; the pace once warm (the last third); and
    how much longer than at that pace the first third took, which is what warming up costs. CPython
    compiles nothing while it runs and has nothing to warm up."""
    bench.command(f"{name}, in process", contender, command)
    times = json.loads(measure(command).output)
    third = len(times) // 3
    pace = median(times[-third:])
    bench.add(f"{name}, first time", contender, times[0] * 1000, "ms")
    bench.add(f"{name}, once warm", contender, pace * 1000, "ms")
    if contender.interpreter == "pypy":
        bench.add(f"{name}, warm-up in all", contender,
                  max(0.0, sum(times[:third]) - pace * third) * 1000, "ms")
