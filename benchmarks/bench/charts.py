"""SVG charts of the figures, drawn by gnuplot."""

import subprocess

from .contenders import ALL
from .machine import Missing, need
from .results import matrices, number
from .timing import pseudomedian

_ORDER = [kind.name for kind in ALL]
_HEAD = """set terminal svg size 900,420 dynamic font "sans-serif,12" background rgb "white"
set output "{out}"
set title "{title}"
set style data histograms
set style fill solid 0.85 border -1
set boxwidth 0.9
set grid ytics lc rgb "#dddddd"
set key outside right top
set yrange [0:*]
set ylabel "{label}"
"""


def _draw(path, title, label, columns, lines, stacked=False):
    """`lines` maps a place on the x axis to its values, one for each column; None is a gap."""
    if not lines or not columns:
        return None
    table = "\n".join(" ".join([f'"{name}"'] + ["?" if v is None else f"{v:.4f}" for v in values])
                      for name, values in lines.items())
    script = _HEAD.format(out=path, title=title, label=label)
    script += 'set datafile missing "?"\n'
    script += ("set style histogram rowstacked\n" if stacked
               else "set style histogram clustered gap 1\n")
    script += "set xtics rotate by -20 noenhanced\nset key noenhanced\n"
    script += f"$data << EOD\n{table}\nEOD\n"
    script += "plot " + ", ".join(
        f'$data using {n + 2}:xtic(1) title "{column}"' for n, column in enumerate(columns)) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([need("gnuplot", "gnuplot-nox")], input=script, text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise Missing(f"gnuplot failed on {path.name}: {done.stderr.strip()[:200]}")
    return path


def _ratios(record, works, leave_out=()):
    """Contenders as columns, works as places, each value as a ratio to the original."""
    works = [w for w in works if "original" in record["samples"].get(w, {})]
    names = [n for n in _ORDER if n not in leave_out
             and any(n in record["samples"][w] for w in works)]
    lines = {}
    for work in works:
        samples = record["samples"][work]
        base = pseudomedian(samples["original"])
        lines[f"{work} ({number(base)} {record['units'][work]})"] = [
            pseudomedian(samples[n]) / base if n in samples else None for n in names]
    return names, lines


def draw(results, directory):
    """All charts that the figures suffice for; returns {suite: [paths]}."""
    suites, drawn = results["suites"], {}

    def chart(suite, name, title, label, columns, lines, stacked=False):
        path = _draw(directory / f"{name}.svg", title, label, columns, lines, stacked)
        if path:
            drawn.setdefault(suite, []).append(path)

    if "start" in suites:
        for state in ("cold", "warm"):
            works = [f"{state} {w}" for w in ("pass", "pymysql", "django")]
            chart("start", f"start-{state}", f"{state.capitalize()} start, the original = 1",
                  "times the original", *_ratios(suites["start"], works,
                                                 leave_out=("ancestor", "extraction")))
    if "constrained" in suites:
        works = [w for w in suites["constrained"]["samples"] if "cold" in w]
        chart("constrained", "constrained", "Under constraints, the original = 1",
              "times the original", *_ratios(suites["constrained"], works,
                                             leave_out=("ancestor", "pyram-mount")))
    if "memory" in suites:
        for kind, (columns, lines, _) in matrices(suites["memory"]).items():
            parts = [c for c in columns
                     if c in ("private", "daemon", "kernel", "image", "programs", "tree", "hidden")]
            if parts:
                chart("memory", f"memory-{kind.replace(' ', '-')}", f"Memory: {kind}", "MiB",
                      parts, {name: [values.get(p) for p in parts]
                              for name, values in lines.items() if name != "cpython"}, True)
    if "programs" in suites:
        works = [w for w in suites["programs"]["samples"] if w.endswith("whole process")]
        chart("programs", "programs", "Whole processes, the unpacked PyPy = 1",
              "times the original", *_ratios(suites["programs"], works))
    if "site" in suites:
        chart("site", "site", "Requests a second, the unpacked PyPy = 1", "times the original",
              *_ratios(suites["site"], ["/page", "/json"]))
    return drawn
