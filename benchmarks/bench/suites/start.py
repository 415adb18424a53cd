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


QUICK = {"pass": 3, "django": 1}  # tries of each
QUICK_DJANGO = ("original", "squashfuse_ll", "pyram-mount", "pyram", "cpython")


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
                        or work == "django" and contender.name not in QUICK_DJANGO):
        return False
    if contender.interpreter == "cpython" and work == "pymysql":
        return False
    return not (contender.name == "ancestor" and state == "warm")  # every start of its is cold


def _interleaved(bench, field, state, work, arguments, expect):
    title = f"{state} {work}"

    def one(contender):
        sample = _one(contender, state, arguments, expect)
        bench.add(title, contender, sample.seconds * 1000, "ms")

    for contender in field:
        command = contender.warm(arguments) if state == "warm" else contender.cold(arguments)
        bench.command(title, contender, command)

    def renewed(able):
        return _warmed_up(bench, able, work, arguments, expect)

    try:
        bench.tried(title, field, QUICK.get(work, 0) if bench.quick else 11, one, [title],
                    renewed if state == "warm" else None)
    finally:
        for contender in field:
            contender.unmount()


def _warmed_up(bench, contenders, work, arguments, expect):
    """Mounts and fills the caches anew: where in memory a file's pages come to lie makes warm starts
    a tenth faster or slower, and would be one throw of the dice for a whole run. Returns who can."""
    for contender in contenders:
        contender.unmount()
    if not (bench.quick or "caches" in limits()):
        drop_caches()
    able = []
    for contender in contenders:
        try:
            contender.mount()
            # The first start fills the caches and the second finds them.
            for _ in range(1 if bench.quick else 2):
                measure(contender.warm(arguments), expect)
            able.append(contender)
        except Missing as reason:
            bench.missing(f"{contender.name}: warm {work}", reason)
    return able


def _mounting(bench, state):
    """The mount by itself, until it serves; with the programs and the image cold or warm."""
    title = f"{state} mount"

    def one(contender):
        contender.unmount()
        if state == "cold":
            drop_caches()
        try:
            sample = measure(Command(contender.mount_script(), contender.environment))
            bench.add(title, contender, sample.seconds * 1000, "ms")
        finally:
            contender.unmount()

    field = [c for c in bench.contenders if c.mount_script()]
    for contender in field:
        bench.command(title, contender, Command(contender.mount_script()))
    bench.tried(title, field, 3 if bench.quick else 25, one, [title])
