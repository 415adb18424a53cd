"""SVG charts of the figures: horizontal bars, each with its contender's name and its value beside it; and the
rates of a site over time, as lines.

A contender has one colour in every chart. The charts have no background and take the reader's light
or dark mode, and are narrow enough to be read on a telephone."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

from .results import matrices, number
from .timing import median, pseudomedian

# What a chart calls each contender, and its colour: in contrast to white and to the dark mode's
# #2e303e by at least 3 (tests/packaging/figures.test). Files and archives, which only the sizes have,
# have the colour of what uses them.
LOOK = {
    "original": ("PyPy, unpacked", "#7d828c"),
    "same": ("image, unpacked", "#a0785a"),
    "squashfs": ("kernel squashfs", "#1c8f86"),
    "erofs": ("kernel erofs", "#5c8a2e"),
    "squashfuse_ll": ("squashfuse_ll", "#d0601c"),
    "squashfuse_ll-new": ("squashfuse_ll 0.5", "#cc6650"),
    "pyram-mount": ("pyram-mount", "#8f74d1"),
    "pyram": ("Pyram", "#5878e6"),
    "extraction": ("Pyram, in RAM", "#c44fa0"),
    "ancestor": ("PyRAM's way", "#cf5575"),
    "cpython": ("CPython", "#a88400"),
}
# benchmarks/serving's name of "original".
DEBIAN = "Debian's PyPy"
_FORMS = {"pyram image": ("Pyram's image", "pyram"), "erofs lz4hc": ("erofs, lz4hc", "erofs"),
          "tar.xz -6": ("tar.xz", "ancestor"), "tar.zst -19": ("tar.zst", "ancestor")}

_WIDTH, _NAMES, _VALUES = 480, 126, 80  # The bars lie between the names and the values.
_BAR, _STEP, _HEADING = 16, 22, 26
_STYLE = """text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}
.note{fill:#59636e;font-size:12px}.group{font-weight:600}.end{text-anchor:end}
@media(prefers-color-scheme:dark){text{fill:#e6e8eb}.note{fill:#a9b1ba}}"""


@dataclass
class Chart:
    """`groups` maps a heading to the bars below it: a contender's value, or (a value, how much of it
    is drawn dark). Each group has a scale of its own."""

    name: str
    title: str
    note: str
    groups: dict


def _bars(values, top):
    """The lines of one group's bars, the first of which lies at `top`."""
    room = _WIDTH - _NAMES - _VALUES
    most = max(value if isinstance(value, float) else value[0] for value in values.values()) or 1
    for turn, (name, value) in enumerate(values.items()):
        whole, dark = (value, value) if isinstance(value, float) else value
        label, kind = _FORMS.get(name, (LOOK.get(name, name)[0], name))
        colour = LOOK[kind][1]
        y = top + turn * _STEP
        yield f'<text class="end" x="{_NAMES - 8}" y="{y + 13}">{escape(label)}</text>'
        if dark < whole:
            yield (f'<rect x="{_NAMES}" y="{y}" width="{whole / most * room:.1f}" height="{_BAR}" '
                   f'fill="{colour}" fill-opacity="0.45"/>')
        yield (f'<rect x="{_NAMES}" y="{y}" width="{max(dark / most * room, 1):.1f}" '
               f'height="{_BAR}" fill="{colour}"/>')
        yield f'<text x="{_NAMES + whole / most * room + 6:.1f}" y="{y + 13}">{number(whole)}</text>'


def _picture(chart, lines, height):
    """The text of an SVG file."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img">', f"<title>{escape(f'{chart.title} ({chart.note})')}</title>",
        f"<style>{_STYLE}</style>", f'<text class="title" x="0" y="16">{escape(chart.title)}</text>',
        f'<text class="note" x="0" y="36">{escape(chart.note)}</text>', *lines, "</svg>", ""])


def _draw(chart):
    """The chart as the text of an SVG file."""
    lines, y = [], 50
    for heading, values in chart.groups.items():
        if heading:
            lines.append(f'<text class="group" x="0" y="{y + 14}">{escape(heading)}</text>')
            y += _HEADING
        lines += _bars(values, y)
        y += len(values) * _STEP + 10
    return _picture(chart, lines, y)


@dataclass
class Lines:
    """A value for each second of each contender."""

    name: str
    title: str
    note: str
    seconds: dict  # {(label, contender whose colour it has): [value, ...]}


_HIGH, _AXIS = 170, 44  # Of a chart of lines; room for the values beside it.


def _steps(most):
    """Round values up to `most`, four or five of them."""
    step = next(factor * 10 ** power for power in range(9) for factor in (1, 2, 5)
                if most / (factor * 10 ** power) <= 5)
    return range(0, int(most) + step, step)


def _draw_lines(chart):
    """The chart as the text of an SVG file. Each value is the median of its neighbourhood of three."""
    smooth = {name: [median(values[max(0, at - 1):at + 2]) for at in range(len(values))]
              for name, values in chart.seconds.items()}
    steps = _steps(max(map(max, smooth.values())))
    length = max(map(len, smooth.values()))
    top, room = 56, _WIDTH - _AXIS - _NAMES

    def point(second, value):
        return _AXIS + second / (length - 1) * room, top + _HIGH - value / steps[-1] * _HIGH

    lines = []
    for value in steps:
        y = point(0, value)[1]
        lines.append(f'<line stroke="#8b949e" stroke-opacity="0.35" x1="{_AXIS}" x2="{_AXIS + room}" '
                     f'y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="note end" x="{_AXIS - 6}" y="{y + 4:.1f}">{value:,}</text>')
    for second in range(0, length + 1, 30):
        shown = min(second, length - 1)
        lines.append(f'<text class="note" text-anchor="middle" x="{point(shown, 0)[0]:.1f}" '
                     f'y="{top + _HIGH + 18}">{second} s</text>')
    beside = []  # The names' places; none on another.
    for name, values in sorted(smooth.items(), key=lambda item: -item[1][-1]):
        label, colour = name[0], LOOK[name[1]][1]
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(*pair) for pair in enumerate(values)))
        lines.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        beside.append(max(point(0, values[-1])[1] + 4, beside[-1] + 17 if beside else 0))
        lines.append(f'<rect x="{_AXIS + room + 6}" y="{beside[-1] - 9:.1f}" width="9" height="9" fill="{colour}"/>')
        lines.append(f'<text x="{_AXIS + room + 19}" y="{beside[-1]:.1f}">{escape(label)}</text>')
    return _picture(chart, lines, top + _HIGH + 28)


def middles(record, work, names=LOOK):
    """{contender: middle} of one work, in the order of `names`."""
    samples = record["samples"].get(work, {})
    return {name: pseudomedian(samples[name]) for name in names if name in samples}


def _groups(record, works, names):
    """The works, each by its heading, of which there are figures."""
    groups = {heading: middles(record, work, names) for work, heading in works.items()}
    return {heading: values for heading, values in groups.items() if values}


_STARTS = {"pass": "an empty script (-c pass)", "pymysql": "importing PyMySQL",
           "django": "Django's set-up and one page"}
_START_FIELD = ["pyram", "original", "same", "squashfs", "squashfuse_ll", "squashfuse_ll-new"]


def _start(record):
    for state, title in (("cold", "First start after boot: nothing is cached"),
                         ("warm", "Next start: everything is cached")):
        works = {f"{state} {work}": heading for work, heading in _STARTS.items()}
        yield Chart(f"start-{state}", title, "milliseconds, lower is better",
                    _groups(record, works, _START_FIELD))


def _constrained(record):
    field = ["pyram", "original", "squashfs", "squashfuse_ll", "squashfuse_ll-new"]
    note = "milliseconds, lower is better"
    slow = {w: w.replace(": cold pass", ": an empty script").replace(": cold django", ": Django")
            for w in record["samples"] if "cold" in w}
    yield Chart("slow-disk", "First start from a slow disk", note,
                _groups(record, {w: h for w, h in slow.items() if w.startswith("disk")}, field))
    yield Chart("constrained", "First start with little processor time or memory", note,
                _groups(record, {w: h for w, h in slow.items() if not w.startswith("disk")}, field))


def _memory(record):
    headings = {"pass": "1 empty script", "20 processes": "20 empty scripts at once",
                "django": "1 Django set-up", "20 django processes": "20 Django set-ups at once"}
    groups, tables = {}, matrices(record)
    for table, heading in headings.items():
        lines = tables.get(table, ([], {}, ""))[1]
        found = {name: (values["all"], min(values.get("private", 0.0), values["all"]))
                 for name in ("pyram", "original", "same", "squashfs", "squashfuse_ll")
                 if "all" in (values := lines.get(name, {}))}
        if found:
            groups[heading] = found
    yield Chart("memory", "All memory that a start takes",
                "MiB, lower is better; full colour: private memory of the interpreters", groups)


def _size(record):
    names = ["pyram image", "original", "same", "erofs lz4hc", "tar.xz -6", "tar.zst -19"]
    yield Chart("size", "PyPy, Django and PyMySQL on disk", "MB, lower is better",
                {"": middles(record, "bytes on disk", names)})


def _programs(record):
    """Programs of seconds, where they were measured, otherwise their rounds once compiled."""
    def chart(kind, name, title, unit):
        works = {w: w.split(",")[0] for w in record["samples"] if w.endswith(kind)}
        return Chart(name, title, f"{unit}, lower is better",
                     _groups(record, works, ["pyram", "original", "cpython"]))

    seconds = chart("rounds", "programs", "Programs of some seconds", "seconds")
    yield seconds if seconds.groups else chart(
        "once warm", "programs", "One round of a program, once compiled", "milliseconds")
    yield chart("whole process", "programs-whole", "The same as a whole short process", "milliseconds")


def _site(record):
    yield Chart("site", "Django under gunicorn, after 20 s of load",
                "requests a second, higher is better",
                _groups(record, {"/page": "/page", "/json": "/json"}, ["pyram", "original", "cpython"]))


def _summary(suites):
    """What the README shows: Pyram beside what it replaces, a figure of each kind."""
    found = {}
    for heading, suite, work, names in (
            ("Size on disk, MB", "size", "bytes on disk", {"pyram image": "pyram",
                                                           "original": "original"}),
            ("Memory of an empty script, MiB", "memory", "pass: all", None),
            ("First start from a disk of 20 MB/s, ms", "constrained", "disk of 20 MB/s: cold pass",
             None),
            ("First start from a fast disk, ms", "start", "cold pass", None),
            ("Next start, ms", "start", "warm pass", None)):
        names = names or {"pyram": "pyram", "original": "original"}
        values = middles(suites.get(suite, {"samples": {}}), work, list(names))
        if len(values) == len(names):
            found[heading] = {names[name]: value for name, value in values.items()}
    return Chart("summary", "Pyram and Debian's PyPy, unpacked", "lower is better", found)


_DRAWN = {"start": _start, "constrained": _constrained, "memory": _memory, "size": _size,
          "programs": _programs, "site": _site}


def draw(results, directory):
    """All charts that the figures suffice for; returns {name: path}."""
    suites = results["suites"]
    charts = [_summary(suites)]
    for suite, made in _DRAWN.items():
        charts += made(suites[suite]) if suite in suites else []
    drawn = {}
    for chart in charts:
        if chart.groups and any(chart.groups.values()):
            drawn[chart.name] = directory / f"{chart.name}.svg"
            drawn[chart.name].write_text(_draw(chart))
    if rates := results.get("serving", {}).get("rates"):
        shown = {"pyram_serve": ("pyram_serve", "pyram"), "gunicorn": ("Pyram's PyPy", "same"),
                 DEBIAN: (DEBIAN, "original"),
                 "CPython": ("CPython", "cpython")}
        chart = Lines("serving", "A Django page under load, from the first second",
                      "requests a second, higher is better; gunicorn with two workers",
                      {shown[name]: values for name, values in rates.items()})
        drawn[chart.name] = directory / f"{chart.name}.svg"
        drawn[chart.name].write_text(_draw_lines(chart))
    return drawn
