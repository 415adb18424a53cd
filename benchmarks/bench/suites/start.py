"""start: from the command to the last byte of its answer, cold and warm."""

import random

from ..machine import SCRIPTS, Missing, drop_caches, limits
from ..timing import Command, measure

TITLE = "Start"
CONTENDERS = None  # all of them

WORK = {
    "pass": (["-c", "pass"], None),
    "pymysql": (["-c", "import pymysql; print(pymysql.__name__)"], "pymysql"),
    "django": ([str(SCRIPTS / "django_page.py")], "1,2,3,4"),
}


def _tries(quick, state, contender, work):
    if contender.name in ("ancestor", "extraction"):
        return (state == "cold" and work == "pass") if quick else 3
    if quick:
        return {"pass": 5, "django": 2}.get(work, 0) if contender.name != "same" else (
            5 if work == "pass" else 0)
    return 11 if state == "cold" else 15


def _one(contender, state, arguments, expect):
    if state == "warm":
        return measure(contender.warm(arguments), expect)
    contender.unmount()
    drop_caches()
    try:
        return measure(contender.cold(arguments), expect)
    finally:
        contender.unmount()


def run(bench):
    states = ["cold", "warm"]
    if "caches" in limits():
        bench.missing("cold starts", limits()["caches"])
        states = ["warm"]
    for state in states:
        for work, (arguments, expect) in WORK.items():
            field = [c for c in bench.contenders if _takes_part(c, state, work)]
            _interleaved(bench, field, state, work, arguments, expect)
        _mounting(bench, state)


def _takes_part(contender, state, work):
    if contender.interpreter == "cpython" and work == "pymysql":
        return False
    return not (contender.name == "ancestor" and state == "warm")  # every start of its is cold


def _interleaved(bench, field, state, work, arguments, expect):
    """One try of each contender after the other, in a new order each round."""
    tries = {c: _tries(bench.quick, state, c, work) for c in field}
    field = [c for c in field if tries[c]]
    for contender in field:
        command = contender.warm(arguments) if state == "warm" else contender.cold(arguments)
        bench.command(f"{state} {work}", contender, command)
        if state == "warm":
            tries[contender] *= _warmed_up(bench, contender, work, arguments, expect)
    try:
        for turn in range(max(tries.values(), default=0)):
            for contender in random.sample(field, len(field)):
                if turn >= tries[contender]:
                    continue
                try:
                    sample = _one(contender, state, arguments, expect)
                    bench.add(f"{state} {work}", contender, sample.seconds * 1000, "ms")
                except Missing as reason:
                    bench.missing(f"{contender.name}: {state} {work}", reason)
                    tries[contender] = 0
    finally:
        for contender in field:
            contender.unmount()


def _warmed_up(bench, contender, work, arguments, expect):
    try:
        contender.mount()
        # The first start fills the caches and the second finds them.
        for _ in range(1 if bench.quick else 2):
            measure(contender.warm(arguments), expect)
        return True
    except Missing as reason:
        bench.missing(f"{contender.name}: warm {work}", reason)
        return False


def _mounting(bench, state):
    """The mount by itself, until it serves; with the programs and the image cold or warm."""
    field = [c for c in bench.contenders if c.mount_script()]
    for contender in field:
        bench.command(f"{state} mount", contender, Command(contender.mount_script()))
    for _ in range(3 if bench.quick else 15):
        for contender in random.sample(field, len(field)):
            contender.unmount()
            if state == "cold":
                drop_caches()
            try:
                sample = measure(Command(contender.mount_script(), contender.environment))
                bench.add(f"{state} mount", contender, sample.seconds * 1000, "ms")
            except Missing as reason:
                bench.missing(f"{contender.name}: {state} mount", reason)
            finally:
                contender.unmount()
