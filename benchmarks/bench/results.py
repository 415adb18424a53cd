"""Collects samples and prints them as tables of middles, spreads and ratios."""

import itertools
import json
import math
import random
import time

from .contenders import ALL
from .machine import PROJECT, WORK, Missing, describe
from .timing import pseudomedian, spread, uncertainty

FILE = WORK / "results.json"
PUBLISHED = PROJECT / "docs/benchmarks/results.json"
# A ratio's standard error with which no more tries are made. Two runs of it differ by more than
# 10% once in two hundred times.
PRECISE = 0.025
_AGREE = 1.1  # Ratios of two runs that are not further apart.


class Suite:
    """What one suite measured: `samples[work][contender]`, with units, commands and gaps."""

    def __init__(self, name, title, quick, contenders, settings, minutes, only_works=""):
        self.name, self.title, self.quick, self.minutes = name, title, quick, minutes
        self.only_works = only_works  # Text that a work's name must have in it to be tried.
        self.contenders, self.settings = contenders, settings
        self.matrix = False  # the suite may set it: works are then "TABLE: COLUMN"
        self.samples, self.units, self.gaps, self.notes = {}, {}, {}, []
        self.commands, self.around = {}, {}

    def add(self, work, contender, value, unit):
        self.units[work] = unit
        self.samples.setdefault(work, {}).setdefault(_name(contender), []).append(value)

    def tried(self, what, field, least, one, works, renewed=None):
        """Calls one(contender) for each of the field, in a new order each round: `least` rounds
        (with --quick that is all), and more until every ratio of `works` is precise or the minutes
        that a work may take are over. Those of whom a try takes seconds, and whose ratios are far
        from 1, are in every third round only. The baseline's noise is in every ratio: it has more
        tries, the square root of the others' number in each round, with which their time goes
        furthest. Who raises Missing or OSError is left out from then on, with `what` in the
        reason. `renewed`, if given, brings those whom it gets into a new state before every fifth
        round, and returns whom that worked with."""
        if self.only_works not in what:
            return
        able = list(field)
        began = time.monotonic()
        for turn in itertools.count():
            late = time.monotonic() - began > 60 * self.minutes
            if turn >= least and (self.quick or late or self._precise(works)):
                return
            if renewed and turn % 5 == 0:
                able = renewed(able)
            now = [c for c in able if turn % 3 == 0 or not c.slow]
            base = baseline([c.name for c in able])
            more = 0 if self.quick else max(0, round(math.sqrt(max(len(able) - 1, 0))) - 1)
            now += [c for c in able if c.name == base] * more
            for contender in random.sample(now, len(now)):
                if contender not in able:
                    continue
                try:
                    one(contender)
                except (Missing, OSError) as reason:
                    self.missing(f"{contender.name}: {what}", reason)
                    able.remove(contender)

    def _precise(self, works):
        return all(error <= PRECISE for work in works
                   for error in errors(self.samples.get(work, {})).values())

    def command(self, work, contender, command, **shown):
        """How this work is repeated by hand; `shown` are variables of the shell that stand for what
        is another one in each run (a port that was free)."""
        line = getattr(command, "line", command)
        for variable, value in shown.items():
            line = line.replace(str(value), f"${variable}")
        self.commands.setdefault(work, {})[_name(contender)] = line

    def by_hand(self, work, first, last=()):
        """What has to be typed before such commands, and after them; "": before all the suite's."""
        self.around[work] = {"first": list(first), "last": list(last)}

    def missing(self, what, reason):
        if what not in self.gaps:
            print(f"  left out: {what}: {reason}", flush=True)
        self.gaps[what] = str(reason)

    def note(self, text):
        print(f"  {text}", flush=True)
        self.notes.append(text)

    def record(self):
        return {"title": self.title, "quick": self.quick, "matrix": self.matrix,
                "samples": self.samples,
                "units": self.units, "commands": self.commands, "around": self.around,
                "mounts": self._mounts(), "gaps": self.gaps, "notes": self.notes}

    def _mounts(self):
        """{contender: [what mounts it, what unmounts it]}"""
        return {c.name: [c.mount_command().line, c.unmount_script()]
                for c in self.contenders if c.mount_command()}


def _name(contender):
    return contender if isinstance(contender, str) else contender.name


def by_hand(record):
    """The suite's commands as lines of a shell script, in the order in which they are typed."""
    around = record.get("around", {})
    lines = []
    for work, commands in {"": {}, **record["commands"]}.items():
        hand = around.get(work, {"first": [], "last": []})
        lines += [f"# {work}: first" if work else "# first"] * bool(hand["first"]) + hand["first"]
        for contender, line in commands.items():
            lines += [f"# {work}: {contender}", line]
        if work:
            lines += [f"# {work}: afterwards"] * bool(hand["last"]) + hand["last"]
    last = around.get("", {"last": []})["last"]
    return lines + ["# at the end"] * bool(last) + last


def load():
    """The figures taken here; in a new checkout, those that are published, if they are of such a machine."""
    try:
        return json.loads(FILE.read_text())
    except (OSError, ValueError):
        pass
    published = json.loads(PUBLISHED.read_text())
    here = describe()
    alike = all(published["machine"].get(key) == here[key] for key in ("processor", "cores", "memory_mib"))
    return published if alike else {"suites": {}}


def save(suite, again=False):
    """Puts the suite's figures in the place of its earlier ones, or beside them when it was run
    again; other suites' stay. Of single works (--work), only these are replaced."""
    everything = load()
    machine = describe()
    if again:
        everything["suites"][suite.name]["again"] = {"samples": suite.samples,
                                                     "date": machine["date"]}
    else:
        record = {**suite.record(), "date": machine["date"]}
        earlier = everything["suites"].get(suite.name)
        if suite.only_works and earlier:
            record = _with_works(earlier, record, suite.only_works)
        else:
            everything["machine"] = machine
        everything["suites"][suite.name] = record
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(everything, indent=1) + "\n")


def _with_works(earlier, record, text):
    """The earlier record with those of this one's works that have `text` in their names; a note dates them."""
    result = dict(earlier)
    for kind in ("samples", "units", "commands", "around"):
        result[kind] = {**earlier.get(kind, {}),
                        **{work: value for work, value in record[kind].items() if text in work}}
    result["mounts"] = {**earlier.get("mounts", {}), **record["mounts"]}
    result["gaps"] = {**earlier["gaps"], **record["gaps"]}
    works = [work for work in record["samples"] if text in work]
    notes = [note for note in earlier["notes"] if note.partition(": taken at ")[0] not in works]
    result["notes"] = [*notes, *(f"{work}: taken at {record['date']}" for work in works)]
    return result


def baseline(names):
    """The contender that ratios refer to."""
    return next((name for name in ("original", "same", "tree") if name in names), None)


def errors(samples):
    """{contender: standard error of its ratio, as a part of it}, for all but the baseline."""
    base = baseline(samples)
    if base is None:
        return {}
    return {name: math.hypot(uncertainty(values), uncertainty(samples[base]))
            for name, values in samples.items() if name != base}


def precision(record):
    """In words: how many tries there were, and what that makes of the ratios."""
    tries = [len(values) for samples in record["samples"].values() for values in samples.values()]
    found = [error for samples in record["samples"].values() for error in errors(samples).values()]
    if record["matrix"] or max(tries, default=1) == 1 or not found:
        return None
    good = sum(error <= PRECISE for error in found)
    return (f"{min(tries)} to {max(tries)} tries; the standard error of {good} of {len(found)} "
            f"ratios is at most {PRECISE:.1%}, of the others up to {max(found):.0%}")


def place(contender):
    """Where it stands in a table: in the order of the contenders, others behind them."""
    known = [kind.name for kind in ALL]
    return known.index(contender) if contender in known else len(known)


def rows(record):
    """(work, contender, middle, spread, ratio or None, tries, unit) of a suite's record."""
    for work, samples in record["samples"].items():
        middles = {name: pseudomedian(values) for name, values in samples.items()}
        base = middles.get(baseline(samples))
        for contender in sorted(samples, key=place):
            values = samples[contender]
            ratio = middles[contender] / base if base else None
            yield (work, contender, middles[contender], spread(values), ratio, len(values),
                   record["units"][work])


def second_run(record):
    """The record as the second run has it; without samples where there was none."""
    return {**record, **record.get("again", {"samples": {}})}


def agreement(record):
    """How many ratios were measured twice; how many of them noise alone would part by more than
    10%; and those that are further apart, each as (work, contender, ratio, ratio of the second run,
    whether two standard errors of their difference explain that). Of memory, what it is in all:
    parts of a few hundred KiB have no ratio that means anything."""
    again = second_run(record)
    seconds = {(work, contender): ratio for work, contender, _, _, ratio, _, _ in rows(again)}
    count, expected, differ = 0, 0.0, []
    for work, contender, _, _, ratio, _, _ in rows(record):
        second = seconds.get((work, contender))
        if contender == baseline(record["samples"][work]) or not ratio or not second:
            continue
        if record["matrix"] and not work.endswith(": all"):
            continue
        count += 1
        noise = math.hypot(*(errors(run["samples"][work])[contender] for run in (record, again)))
        if noise > 0:
            expected += math.erfc(math.log(_AGREE) / noise / math.sqrt(2))
        apart = max(ratio, second) / min(ratio, second)
        if apart > _AGREE:
            differ.append((work, contender, ratio, second, math.log(apart) <= 2 * noise))
    return count, expected, differ


def number(value):
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def matrices(record):
    """Works named "TABLE: COLUMN" as {table: (columns, {contender: {column: median}}, unit)}."""
    tables = {}
    for work, samples in record["samples"].items():
        table, column = work.split(": ", 1)
        columns, lines, _ = tables.setdefault(table, ([], {}, record["units"][work]))
        columns.append(column)
        for contender in sorted(samples, key=place):
            lines.setdefault(contender, {})[column] = pseudomedian(samples[contender])
    return tables


def print_tables(record):
    if record["matrix"]:
        for table, (columns, lines, unit) in matrices(record).items():
            print(f"\n{record['title']}: {table} ({unit})")
            print(" " * 18 + "  ".join(columns))
            for contender in sorted(lines, key=place):
                cells = (number(lines[contender][c]) if c in lines[contender] else "-"
                         for c in columns)
                print(f"  {contender:16}" + "  ".join(
                    f"{cell:>{len(column)}}" for cell, column in zip(cells, columns)))
        return
    last = None
    for work, contender, middle, wide, ratio, tries, unit in rows(record):
        if work != last:
            print(f"\n{record['title']}: {work} ({unit})")
            last = work
        shown = f"{ratio:6.2f} x" if ratio is not None else ""
        print(f"  {contender:16} {number(middle):>10}  ±{wide * 100:4.1f}%  {shown}  (n={tries})")
    if said := precision(record):
        print(f"\n{said}")
