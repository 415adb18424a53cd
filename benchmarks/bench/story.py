"""What the figures say, in plain sentences: the first part of docs/benchmarks.md."""

from .charts import DEBIAN, middles
from .results import number, rows


class Figures:
    """The middles of all suites' works, and what benchmarks/serving has published."""

    def __init__(self, results):
        self.suites = results["suites"]
        self.serving = results.get("serving", {})

    def of(self, suite, work, contender):
        """Raises KeyError where that was not measured."""
        return middles(self.suites[suite], work, [contender])[contender]

    def pair(self, suite, work, unit=1):
        """Pyram's and the unpacked PyPy's, in words."""
        return tuple(number(self.of(suite, work, name) / unit) for name in ("pyram", "original"))

    def times(self, suite, work, contender, against):
        return self.of(suite, work, contender) / self.of(suite, work, against)


def _size(figures):
    image = number(figures.of("size", "bytes on disk", "pyram image"))
    original = number(figures.of("size", "bytes on disk", "original"))
    return (f"**The image is small.** It takes {image} MB on disk. Debian's packages of the same "
            f"PyPy, Django and PyMySQL take {original} MB.")


def _slow_disk(figures):
    ours, theirs = figures.pair("constrained", "disk of 20 MB/s: cold pass", 1000)
    return (f"**A slow disk matters less.** From a disk of 20 MB/s, the first start takes {ours} s "
            f"with Pyram and {theirs} s with unpacked PyPy. The image is compressed, and what a start "
            "reads lies together.")


def _cold(figures):
    ours, theirs = figures.pair("start", "cold pass")
    ours_django, theirs_django = figures.pair("start", "cold django")
    return (f"**A fast disk gains too.** The first start takes {ours} ms instead of {theirs}, and "
            f"{ours_django} ms instead of {theirs_django} with Django.")


def _warm(figures):
    ours, theirs = figures.pair("start", "warm pass")
    return (f"**Each further start is faster.** It takes {ours} ms instead of {theirs}: PyPy's "
            "library needs no relocation, and finding modules needs no directory listing.")


def _memory(figures):
    ours, theirs = figures.pair("memory", "pass: all")
    ours_many, theirs_many = figures.pair("memory", "20 processes: all")
    return (f"**A start takes less memory.** An empty script takes {ours} MiB in all (interpreter, "
            f"page cache and daemon) instead of {theirs}; 20 at once take {ours_many} MiB instead of "
            f"{theirs_many}.")


def _programs(figures):
    works = list(figures.suites["programs"]["samples"])
    seconds = [work for work in works if work.endswith("rounds")]
    faster = [figures.times("programs", work, "cpython", "pyram")
              for work in seconds or works if seconds or work.endswith("once warm")]
    range_ = f"{number(min(faster))} to {number(max(faster))} times as fast as in CPython"
    if not seconds:
        return (f"**Long-running Python code is faster than in CPython.** Once compiled, these programs "
                f"run {range_}. Pyram and unpacked PyPy run the same compiled code.")
    slowest = max(seconds, key=lambda work: figures.of("programs", work, "cpython"))
    ours, theirs = (number(figures.of("programs", slowest, name)) for name in ("pyram", "cpython"))
    return (f"**Programs that take seconds end earlier than in CPython.** These five run {range_}, start "
            f"included: the longest takes {ours} s instead of {theirs}.")


def _serving(figures):
    """Raises KeyError where that was not published."""
    first, memory = figures.serving["first second"], figures.serving["memory"]
    return (f"**A site is warm from its first request.** In the first second after its start `pyram_serve` "
            f"answers {first['pyram_serve']:,.0f} requests of a Django page. gunicorn answers "
            f"{first['gunicorn']:,.0f} on the same PyPy, {first[DEBIAN]:,.0f} on Debian's PyPy, and "
            f"{first['CPython']:,.0f} on CPython. Memory is the price: two workers and all else take "
            f"{memory['pyram_serve']:.0f} MB after two minutes, instead of {memory[DEBIAN]:.0f} with Debian's PyPy and "
            f"{memory['CPython']:.0f} with CPython. [Less memory](serving.md#figures) is a setting. Taken on "
            f"{figures.serving['date']}.")


_BETTER = [(_size, "size"), (_slow_disk, "slow-disk"), (_cold, "start-cold"), (_warm, "start-warm"),
           (_memory, "memory"), (_serving, "serving"), (_programs, "programs")]


def _short_scripts(figures):
    works = [w for w in figures.suites["programs"]["samples"] if w.endswith("whole process")]
    lost = sum(figures.times("programs", work, "pyram", "cpython") > 1 for work in works)
    return (f"**Short scripts.** CPython starts faster. Of {len(works)} programs that take about a "
            f"tenth of a second, {lost} end earlier in CPython.")


def _site(figures):
    more = [figures.times("site", page, "cpython", "pyram") for page in ("/page", "/json")]
    return (f"**A site under its first load.** After 20 s of load, CPython answers "
            f"{min(more):.2f} to {max(more):.2f} times as many requests a second as Pyram. PyPy is "
            "still compiling then: the rate of a worker rises for more than half a minute. "
            "[Serving a site, warm](serving.md) shows the rate over time and how to avoid the wait.")


def _half_a_core(figures):
    times = figures.times("constrained", "half a core: cold pass", "pyram", "original")
    return (f"**Half a core.** The first start takes {times:.2f} times as long as with unpacked PyPy. "
            "With a second processor, decompression runs in parallel; here both share one." + _tenth(figures))


def _tenth(figures):
    try:
        plain, django = (figures.times("constrained", f"a tenth of a core, 128 MiB: cold {work}", "pyram", "original")
                         for work in ("pass", "django"))
    except KeyError:
        return ""
    return f" With a tenth of a core and 128 MiB, it takes {plain:.2f} times as long, and {django:.2f} times with Django."


def _django_memory(figures):
    times = figures.times("memory", "20 django processes: all", "pyram", "original")
    return (f"**Memory of Django.** 20 Django set-ups take {times:.2f} of the memory with unpacked "
            "PyPy. Most of it is Django's own objects, which Pyram does not change.")


def _names(figures):
    worse = [figures.times("files", f"cold: {work}", "pyram-mount", "original")
             for work in ("find", "stat of every file", "10,000 missing names")]
    return (f"**Listing and looking up files for the first time.** It takes {min(worse):.1f} to "
            f"{max(worse):.1f} times as long as on a disk: each name is a request to the daemon. The "
            "kernel caches the answers. Importing modules needs few of them.")


_WORSE = [(_short_scripts, "programs-whole"), (_site, "site"), (_half_a_core, "constrained"),
          (_django_memory, None), (_names, None)]


def told(results, drawn, parts):
    """The sentences of `parts` with their charts; those whose figures are missing are left out.
    `drawn` is {name of a chart: its path in the document}."""
    lines = []
    for sentence, chart in parts:
        try:
            lines += [sentence(Figures(results)), ""]
        except (KeyError, ValueError):
            continue
        if chart in drawn:
            name = chart.replace("-", " ")
            lines += [f"![Chart: {name}]({drawn[chart]})", ""]
    return "\n".join(lines)


def better(results, drawn):
    return told(results, drawn, _BETTER)


def worse(results, drawn):
    return told(results, drawn, _WORSE)


def slowdowns(record):
    """{(work, contender): how many times worse than unpacked PyPy}, for Pyram's own."""
    found = {}
    for work, contender, _, _, ratio, _, unit in rows(record):
        if contender in ("pyram", "pyram-mount") and ratio:
            found[work, contender] = 1 / ratio if unit.endswith("/s") else ratio
    return found
