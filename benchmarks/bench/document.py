"""Writes docs/benchmarks.md, which tells what the figures say, and docs/benchmarks/details.md, which has
all of them, out of the figures that were published with these."""

import json

from . import charts, story
from .contenders import ALL
from .machine import PROJECT
from .results import (PRECISE, agreement, by_hand, errors, matrices, number, place, precision,
                      rows, second_run)
from .targets import NOT_MEASURED, judged


_HEAD = """# Benchmarks

These figures compare Pyram with what you would use instead, above all with PyPy from Debian's packages, unpacked on
disk. Each time is that of the whole command: mounting and the start of the interpreter are counted. Tables, spreads,
targets and the measured commands are in [the details](benchmarks/details.md);
[the comparison](comparison.md) says which alternative to choose when.
"""

_TAKEN = """## How these were taken

- *First start* (cold): all caches were dropped before each try, and nothing was mounted.
- *Next start* (warm): the image was mounted and had been used before.
- The tries of all contenders are interleaved, in a new order each round.
- A figure is a pseudomedian: the median of the means of all pairs of tries.
- Private memory belongs to one process. All memory is what a control group was charged for, page cache included.

`benchmarks/run` repeats all of it ([how](../benchmarks/README.md)).
"""

_DETAILS_HEAD = """# Benchmarks in detail

All figures, with their spread, the targets and the commands. [The summary](../benchmarks.md) says what they mean.
`benchmarks/run --publish` generates this page from [the figures](results.json); do not edit it.

Each time is that of the whole command: mounting and the start of the interpreter are counted.

- *Cold*: before each try all caches are dropped (`sync; echo 3 >/proc/sys/vm/drop_caches`) and nothing is mounted.
  The shell, `mount`, `tar` and `xz` are read back in, because any running machine has them in memory.
  Pyram's own programs and squashfuse's stay cold.
- *Tries* of all contenders are interleaved, in a new order each round. They end when the standard error of every ratio
  is at most {precise:.1%}, or when the work's time is over (`--minutes`). The baseline has more tries than the others,
  because its noise is part of every ratio. Contenders whose starts take seconds have fewer.
- *A cell* is the pseudomedian (Hodges and Lehmann: the median of the means of all pairs of tries), half the distance
  between the quartiles, and the ratio to the baseline, which is the first column.
"""

_BY_HAND = """The measured commands are below each table. Type them as root in the project's directory, in one shell
for each table; `benchmarks/run` has made what they need in `build/bench`.

- Before a cold try, unmount the image everywhere (also below `/run/pyram`, where `pyram` would find it), and run
  `sync; echo 3 >/proc/sys/vm/drop_caches; for p in mount umount tar xz; do $p --version; done`.
- Before a warm try, mount the image and run the command twice. `benchmarks/run` mounts anew, with the caches dropped,
  before every fifth round.

These commands mount and unmount each contender:
"""

_MEMORY = """`all` is what the cgroup was charged for a cold run while the interpreter runs. With cgroups
version 1, page cache behind a loop device is charged to no cgroup; it is added. The other columns are the
parts, counted one by one: the interpreters' anonymous memory (`private`), the daemon's, the kernel's, and the page
cache (mincore) of the image, of the programs that mount it, and of the tree. `hidden` is the rest: the kernel's
cache of partial blocks, which belongs to no file. `sum` is the sum of all parts.
"""

_CONSTRAINED = """The command enters its cgroup before anything is mounted, so a FUSE daemon is in the same
cgroup. Notes below the table say whether the limit of the disk held for each contender: they compare what the cgroup
was charged with what the whole machine read at that time.
"""


def _machine(results):
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (f"## Machine\n\n{machine['processor']}, {machine['cores']} cores, "
            f"{machine['memory_mib']} MiB, Linux {machine['kernel']}, {machine['distribution']}, "
            f"{machine['filesystem']}; {machine['date']}, revision {machine['revision']}. "
            f"{versions}.\n")


def _warning(results):
    """What a reader has to know before the first figure."""
    quick = [r["title"] for r in results["suites"].values() if r["quick"]]
    load = results["machine"].get("load")
    text = []
    if quick:
        text.append(f"**Few tries** (`--quick`): {', '.join(quick)}. Take them as a first look.")
    if load is None or load > 2 * results["machine"]["cores"]:
        text.append("**The machine was doing other work at the same time**: ratios are off by "
                    "more than 10%.")
    return "\n".join(text) + "\n" if text else ""


def _targets(results):
    """Two figures where there were two runs, and two verdicts where they differ."""
    again = {"suites": {name: second_run(record) for name, record in results["suites"].items()}}
    lines = ["## Targets", "", "Where there were two runs, both figures are shown. "
             "[Where a start's time and memory go](../profile.md)",
             "explains the missed targets.", "",
             "| work | at most | measured | |", "| --- | --- | --- | --- |"]
    for first, second in zip(judged(results), judged(again)):
        text, limit, shown, verdict = first
        _, _, shown_again, verdict_again = second
        if shown_again != NOT_MEASURED:
            shown += f", {shown_again}"
            verdict += "" if verdict == verdict_again else f", {verdict_again}"
        lines.append(f"| {text} | {limit} | {shown} | {verdict} |")
    return "\n".join(lines) + "\n"


def _contenders(results):
    lines = ["## Contenders", ""]
    missing = {}
    for record in results["suites"].values():
        missing.update({k.removeprefix("contender "): v for k, v in record["gaps"].items()
                        if k.startswith("contender ")})
    measured = {name for record in results["suites"].values()
                for samples in record["samples"].values() for name in samples}
    for kind in (k for k in ALL if k.name in measured or k.name in missing):
        gap = f" (missing: {missing[kind.name]})" if kind.name in missing else ""
        lines.append(f"- `{kind.name}`: {kind.title}{gap}")
    return "\n".join(lines) + "\n"


def _worse(results):
    """Everything in which the original does better than Pyram, in both runs where there were two."""
    found = []
    for record in results["suites"].values():
        if record["matrix"]:
            continue
        first, second = story.slowdowns(record), story.slowdowns(second_run(record))
        for (work, contender), slowdown in first.items():
            runs = [run[work, contender] for run in (first, second) if (work, contender) in run]
            if min(runs) > 1.05:
                off = 2 * errors(record["samples"][work]).get(contender, 0)
                shown = " and ".join(f"{run:.2f}" for run in runs)
                found.append((min(runs), f"| {record['title']} | {work} | {contender} | {shown} | "
                                         f"±{slowdown * off:.2f} |"))
    if not found:
        return ""
    lines = ["## Where unpacked PyPy is better", "",
             "All works in which Pyram is more than 5% worse, in both runs where there were two. The error is "
             "two standard errors of the first run.", "",
             "| suite | work | contender | times worse | error |", "| --- | --- | --- | --- | --- |"]
    return "\n".join(lines + [text for _, text in sorted(found, reverse=True)]) + "\n"


def _agreement(results):
    """Whether a second run said the same."""
    lines, apart = [], []
    for record in results["suites"].values():
        count, expected, differ = agreement(record)
        if not count:
            continue
        lines.append(f"| {record['title']} | {record['date']} | {record['again']['date']} | "
                     f"{count - len(differ)} of {count} | {count - expected:.0f} | "
                     f"{sum(not d[4] for d in differ)} |")
        apart += [f"| {record['title']}: {work} | {contender} | {first:.2f} | {second:.2f} | "
                  f"{'yes' if noise else '**no**'} |"
                  for work, contender, first, second, noise in differ]
    if not lines:
        return ""
    head = ["## Two runs", "", "*agree*: ratios to the baseline that agree within 10%. *expected*: how many would "
            "agree if only the noise within each run set them apart. *not explained*: ratios that are further "
            "apart than two standard errors of their difference.",
            "", "| | first | second | agree | expected | not explained |",
            "| --- | --- | --- | --- | --- | --- |"]
    if apart:
        lines += ["", "<details><summary>Ratios more than 10% apart</summary>", "",
                  "| work | contender | first | second | explained by the noise |",
                  "| --- | --- | --- | --- | --- |", *apart, "", "</details>"]
    return "\n".join(head + lines) + "\n"


def _table(record):
    cells, names = {}, []
    for work, contender, middle, wide, ratio, _, _ in rows(record):
        shown = f"{number(middle)} ±{wide * 100:.0f}%"
        cells.setdefault(work, {})[contender] = shown + (
            f" · {ratio:.2f}" if ratio is not None else "")
        if contender not in names:
            names.append(contender)
    names.sort(key=place)
    lines = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    lines += [f"| {work}, {record['units'][work]} | "
              + " | ".join(found.get(name, "-") for name in names) + " |"
              for work, found in cells.items()]
    return "\n".join(lines) + "\n"


def _matrix(record):
    text = []
    for table, (columns, lines, unit) in matrices(record).items():
        text += [f"### {table}, {unit}", "", "| | " + " | ".join(columns) + " |",
                 "| --- " * (len(columns) + 1) + "|"]
        text += [f"| {name} | " + " | ".join(
            number(values[c]) if c in values else "-" for c in columns) + " |"
                 for name, values in lines.items()] + [""]
    return "\n".join(text)


def _mounts(results):
    """What every suite's commands need around them."""
    mounts = {}
    for record in results["suites"].values():
        mounts.update(record.get("mounts", {}))
    if not mounts:
        return ""
    lines = ["## By hand", "", _BY_HAND, "```sh"]
    for name in sorted(mounts, key=place):
        mount, unmount = mounts[name]
        lines += [f"# {name}", mount, f"{unmount}  # afterwards"]
    return "\n".join([*lines, "```", ""])


def _commands(record):
    if not record["commands"]:
        return ""
    return "\n".join(["<details><summary>Commands</summary>", "", "```sh", *by_hand(record), "```",
                      "", "</details>", ""])


def _summary(results, drawn):
    """docs/benchmarks.md"""
    shown = {name: f"benchmarks/{path.name}" for name, path in drawn.items()}
    parts = [_HEAD, _warning(results), "## What Pyram is better at\n", story.better(results, shown),
             "## What Pyram is worse at\n", story.worse(results, shown), _TAKEN, _machine(results)]
    return "\n".join(part for part in parts if part)


def _details(results):
    """docs/benchmarks/details.md"""
    parts = [_DETAILS_HEAD.format(precise=PRECISE), _warning(results), _targets(results), _worse(results),
             _agreement(results), _machine(results), _contenders(results), _mounts(results)]
    notes = {"memory": _MEMORY, "constrained": _CONSTRAINED}
    for name, record in results["suites"].items():
        quick = " (quick: few tries)" if record["quick"] else ""
        section = [f"## {record['title']}{quick}", "", notes.get(name, "")]
        section.append(_matrix(record) if record["matrix"] else _table(record))
        if said := precision(record):
            section.append(f"- {said}")
        section += [f"- {note}" for note in record["notes"]]
        section += [f"- left out: {what}: {why}" for what, why in record["gaps"].items()]
        section.append(f"- taken at {record['date']}")
        parts.append("\n".join(section) + "\n\n" + _commands(record))
    # A run-time directory has to be an absolute path.
    text = "\n".join(parts).replace(str(PROJECT) + "/", "")
    return text.replace("XDG_RUNTIME_DIR=build/", "XDG_RUNTIME_DIR=$PWD/build/")


def publish(results, docs=PROJECT / "docs"):
    """Writes the figures, the charts and both documents into `docs`. Returns the summary's path."""
    directory = docs / "benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    before = directory / "results.json"
    published = json.loads(before.read_text()) if before.exists() else {}
    if "serving" in published:  # benchmarks/serving takes these, and benchmarks/run keeps them.
        results.setdefault("serving", published["serving"])
    text = json.dumps(results, indent=1).replace(str(PROJECT) + "/", "")
    (directory / "results.json").write_text(text + "\n")
    for chart in directory.glob("*.svg"):
        chart.unlink()
    drawn = charts.draw(results, directory)
    if any(record["quick"] for record in results["suites"].values()):
        print("some figures are of --quick runs: the document says so")
    summary = docs / "benchmarks.md"
    summary.write_text(_summary(results, drawn).rstrip() + "\n")
    (directory / "details.md").write_text(_details(results).rstrip() + "\n")
    return summary
