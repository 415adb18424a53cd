"""constrained: the starts again on a slow disk, with little processor time, and in little memory."""

from ..cgroups import Group, disk_bytes_read
from ..machine import Missing, drop_caches, limits
from ..timing import Command, measure
from .start import WORK as STARTS

TITLE = "Start under constraints"
CONTENDERS = ["original", "squashfs", "erofs", "squashfuse_ll",
              "squashfuse_ll-new", "pyram-mount", "pyram", "ancestor", "cpython"]
MIB = 1 << 20


def run(bench):
    for what in ("caches", "cgroups"):
        if what in limits():
            raise Missing(limits()[what])
    _verify(bench)
    quick = bench.quick
    for rate in (20, 5):
        if not (quick and rate == 5):
            _work(bench, f"disk of {rate} MB/s", ["blkio"], {"read_bps": rate * 1000 * 1000},
                  "pass")
    if not quick:
        _work(bench, "disk of 20 MB/s", ["blkio"], {"read_bps": 20 * 1000 * 1000}, "django")
    _work(bench, "half a core", ["cpu"], {"cpu": 0.5}, "pass")
    if quick:
        return
    _work(bench, "half a core", ["cpu"], {"cpu": 0.5}, "django")
    for work in ("pass", "django"):  # the smallest server that one can rent
        _work(bench, "a tenth of a core, 128 MiB", ["cpu", "memory"],
              {"cpu": 0.1, "memory": 128 * MIB}, work)
    for memory in (96, 64, 48):
        for work in ("pass", "django"):
            _work(bench, f"{memory} MiB of memory", ["memory"], {"memory": memory * MIB}, work, 20)


def _work(bench, constraint, controllers, settings, work, timeout=120):
    """Cold starts; each in a group of its own, so that nothing charged before is left in it."""
    arguments, expect = STARTS[work]
    title = f"{constraint}: cold {work}"
    left_out = ("ancestor", "pyram-mount", "cpython") if bench.quick else ()

    def one(contender):
        contender.unmount()
        drop_caches()
        with Group("start", controllers, **settings) as group:
            try:
                command = group.inside(contender.cold(arguments))
                bench.command(title, contender, command)
                bench.by_hand(title, group.first, group.last)
                sample = measure(command, expect, timeout)
            finally:
                contender.unmount()
        bench.add(title, contender, sample.seconds * 1000, "ms")

    field = [c for c in bench.contenders if c.name not in left_out]
    bench.tried(title, field, 1 if bench.quick else 3, one, [title])


def _verify(bench):
    """Does the slow disk hold for each contender? Reads the interpreter's library in a group of
    5 MB/s, and sees whether what the whole machine read meanwhile was charged to the group, and at
    which pace it came (the kernel lets the first moment's reads pass). That the group is charged
    for more than was read is seen here; less would be a hole."""
    rate = (20 if bench.quick else 5) * 1000 * 1000
    for contender in bench.contenders:
        if contender.name in ("cpython", "ancestor", "pyram"):
            continue
        if bench.quick and contender.name in ("original", "erofs", "squashfuse_ll",
                                                "squashfuse_ll-new"):
            continue
        library = "$(ls %s/libexec/pyram/libpypy3*.so %s/lib/*/libpypy3*.so 2>/dev/null | head -1)"
        mount = contender.mount_script()
        read = "cat " + library.replace("%s", str(contender.root())) + " >/dev/null"
        contender.unmount()
        drop_caches()
        try:
            with Group("verify", ["blkio"], read_bps=rate) as group:
                before = disk_bytes_read()
                sample = measure(group.inside(Command(f"{mount} && {read}" if mount else read)))
                contender.unmount()
                machine, charged = disk_bytes_read() - before, group.bytes_read()
        except (Missing, OSError) as reason:
            bench.missing(f"{contender.name}: whether the throttle holds", reason)
            continue
        finally:
            contender.unmount()
        pace = machine / sample.seconds
        holds = charged >= 0.9 * machine and pace <= (1.6 if bench.quick else 1.25) * rate
        bench.add("throttle: MB read through the group", contender, charged / 1e6, "MB")
        bench.note(f"throttle of {rate / 1e6:g} MB/s, {contender.name}: the machine read "
                   f"{machine / 1e6:.1f} MB, the group was charged {charged / 1e6:.1f} MB; "
                   f"{pace / 1e6:.1f} MB/s: "
                   f"{'holds' if holds else 'DOES NOT HOLD'}")
