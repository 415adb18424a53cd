"""What Pyram sets out to reach, each target computed from the figures of one run."""

from dataclasses import dataclass

from .timing import pseudomedian


@dataclass
class Target:
    """`contender`'s middle in `work` is at most `limit` times `against`'s, or, where `against` is
    empty, at most `limit` in the work's own unit, or, where `difference` is set, at most `limit`
    more than `against`'s."""

    text: str
    suite: str
    work: str
    contender: str
    against: str
    limit: float
    difference: bool = False


_COLD, _WARM = "cold start: caches dropped, mount and `-c pass`", "warm `-c pass`"
_DJANGO = "cold Django set-up and rendered template"
TARGETS = [
    Target(_COLD, "start", "cold pass", "pyram", "original", 0.7),
    Target(_COLD, "start", "cold pass", "pyram", "squashfs", 0.7),
    Target(_COLD, "start", "cold pass", "pyram", "squashfuse_ll", 0.6),
    Target("the same on a disk of 20 MB/s", "constrained", "disk of 20 MB/s: cold pass", "pyram",
           "original", 0.09),
    Target("the same on half a core", "constrained", "half a core: cold pass", "pyram",
           "original", 1.0),
    Target(_DJANGO, "start", "cold django", "pyram", "original", 1.0),
    Target(_DJANGO, "start", "cold django", "pyram", "squashfuse_ll", 0.7),
    Target("warm Django", "start", "warm django", "pyram", "original", 0.68),
    Target(_WARM + " from the mount", "start", "warm pass", "pyram-mount", "same", 1.0),
    Target(_WARM + " from the mount", "start", "warm pass", "pyram-mount", "original", 0.9),
    Target(_WARM, "start", "warm pass", "pyram", "original", 0.65),
    Target("the launcher's own time on the warm path", "start", "warm pass", "pyram",
           "pyram-mount", 1.0, difference=True),
    Target("reading the whole image cold with two readers", "files",
           "cold: whole tree, 2 readers", "pyram-mount", "squashfs", 0.9),
    Target("random 4 KiB reads, 4 threads, cold", "files", "cold: random 4 KiB reads, 4 jobs",
           "pyram-mount", "squashfs", 0.9),
    Target("the daemon's PSS, idle after prefetch", "memory", "daemon: PSS, idle", "pyram", "", 8),
    Target("the daemon's memory at its peak", "memory", "daemon: peak resident", "pyram", "", 24),
    Target("all memory of a cold `-c pass`", "memory", "pass: all", "pyram", "original", 0.75),
    Target("private memory of `-c pass`", "memory", "pass: private", "pyram", "original", 0.45),
    Target("private memory of a Django set-up", "memory", "django: private", "pyram", "original",
           0.7),
    Target("all memory of 20 `-c pass` at once", "memory", "20 processes: all", "pyram",
           "original", 0.5),
    Target("all memory of 20 Django set-ups at once", "memory", "20 django processes: all",
           "pyram", "original", 0.5),
    Target("the image", "size", "bytes on disk", "pyram image", "", 26),
    Target("mount until ready, cold", "start", "cold mount", "pyram-mount", "", 15),
    Target("mount until ready, warm", "start", "warm mount", "pyram-mount", "", 15),
]


NOT_MEASURED = "not measured"


def judged(results):
    """(text, limit, measured, verdict) of each target, as words."""
    for target in TARGETS:
        record = results["suites"].get(target.suite, {})
        samples = record.get("samples", {}).get(target.work, {})
        unit = record.get("units", {}).get(target.work, "")
        ours, theirs = samples.get(target.contender), samples.get(target.against)
        text = target.text
        if not ours or (target.against and not theirs):
            measured = None
        elif target.difference:
            measured = pseudomedian(ours) - pseudomedian(theirs)
        else:
            measured = pseudomedian(ours) / (pseudomedian(theirs) if theirs else 1)
        if target.difference:
            limit = f"{target.limit:g} {unit or 'ms'} over {target.against}"
        elif target.against:
            limit = f"{target.limit:g} of {target.against}"
        else:
            limit = f"{target.limit:g} {unit}".strip()
        shown = NOT_MEASURED if measured is None else f"{measured:.2f}"
        verdict = "-" if measured is None else "pass" if measured <= target.limit else "**fail**"
        yield text, limit, shown, verdict
