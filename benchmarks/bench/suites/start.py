"""start: from the command to the last byte of its answer, cold and warm."""

from ..machine import SCRIPTS, Missing, drop_caches, limits
from ..timing import Command, measure

TITLE = "Start"
CONTENDERS = None  # all of them

WORK = {
    "pass": (["-c", "pass"], None),
    "pymysql": (["-c", "import pymysql; print(pymysql.__name__)"], "pymysql"),
    "django": ([str(SCRIPTS / "django_page.py")], "1,2,3,4"),
}


QUICK = {"pass": 5, "django": 2}  # tries of each


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
            field = [c for c in bench.contenders if _takes_part(bench, c, state, work)]
            _interleaved(bench, field, state, work, arguments, expect)
        _mounting(bench, state)


def _takes_part(bench, contender, state, work):
    if bench.quick and (work not in QUICK or contender.slow and state == "warm"
                        or work != "pass" and (contender.slow or contender.name == "same")):
        return False
    if contender.interpreter == "cpython" and work == "pymysql":
        return False
    return not (contender.name == "ancestor" and state == "warm")  # every start of its is cold


def _interleaved(bench, field, state, work, arguments, expect):
    """One try of each contender after the other, in a new order each round."""
    for contender in field:
        command = contender.warm(arguments) if state == "warm" else contender.cold(arguments)
        bench.command(f"{state} {work}", contender, command)
    able = [c for c in field
            if state == "cold" or _warmed_up(bench, c, work, arguments, expect)]
    try:
        for turn in bench.rounds(QUICK.get(work, 0) if bench.quick else 11,
                                 f"{state} {work}"):
            for contender in bench.shuffled(able, turn):
                try:
                    sample = _one(contender, state, arguments, expect)
                    bench.add(f"{state} {work}", contender, sample.seconds * 1000, "ms")
                except Missing as reason:
                    bench.missing(f"{contender.name}: {state} {work}", reason)
                    able.remove(contender)
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
    for turn in bench.rounds(3 if bench.quick else 25, f"{state} mount"):
        for contender in bench.shuffled(field, turn):
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
