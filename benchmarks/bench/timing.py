"""Runs one command, measures it as the person who typed it would, and sums samples up."""

import contextlib
import itertools
import math
import os
import shlex
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, field

from .machine import Missing

# What measured programs get to see: nothing of the caller's that could change how they start.
CLEAN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                     "HOME": "/root", "LANG": "C.UTF-8"}


@dataclass
class Command:
    """A shell script and the environment that it gets beside CLEAN_ENVIRONMENT.

    `line` is what is typed to repeat the run by hand."""

    script: str
    environment: dict = field(default_factory=dict)

    @property
    def line(self):
        assignments = " ".join(f"{key}={shlex.quote(value)}"
                               for key, value in self.environment.items())
        return f"{assignments} sh -c {shlex.quote(self.script)}".strip()

    def surroundings(self):
        """All that the script gets to see of an environment."""
        return {**CLEAN_ENVIRONMENT, **self.environment}

    def started(self, **pipes):
        """The running process, which is the caller's to end; for what measure() doesn't wait for."""
        return subprocess.Popen(["sh", "-c", self.script], env=self.surroundings(), **pipes)


@dataclass
class Sample:
    seconds: float
    cpu_seconds: float    # user and system time of the command and the children that it waited for
    minor_faults: int
    output: str


def measure(command, expect=None, timeout=120):
    """Runs the command and waits for it. Raises Missing where it fails, isn't done after `timeout`
    seconds, or prints what is not expected (`expect` is a part of its standard output): a wrong
    answer has no time."""
    environment = command.surroundings()
    out = os.memfd_create("stdout")
    err = os.memfd_create("stderr")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, out)
        stack.callback(os.close, err)
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1),
                   (os.POSIX_SPAWN_DUP2, err, 2)]
        began = time.perf_counter()
        child = os.posix_spawn("/bin/sh", ["sh", "-c", command.script], environment,
                               file_actions=actions, setpgroup=0)
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
        signal.alarm(timeout)
        try:
            _, status, usage = os.wait4(child, 0)
            ended = time.perf_counter()
        except BaseException:  # told to end: nothing of it may go on
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            signal.alarm(0)
        text = os.pread(out, 1 << 20, 0).decode(errors="replace")
        complaint = os.pread(err, 1 << 16, 0).decode(errors="replace").strip()
    if ended - began >= timeout:
        raise Missing(f"not done after {timeout} s")
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        why = (complaint or text).strip().splitlines()
        raise Missing(f"exit code {code}: {why[-1] if why else 'no message'}")
    if expect is not None and expect not in text:
        raise Missing(f"it printed {text[:80]!r} where {expect!r} was expected")
    return Sample(ended - began, usage.ru_utime + usage.ru_stime, usage.ru_minflt, text)


def median(values):
    return statistics.median(values)


def pseudomedian(values):
    """The median of the means of all pairs, a value with itself included (J. L. Hodges and E. L.
    Lehmann, 1963). Up to a quarter of the values may be outliers, and it takes two thirds of the
    tries that a median needs to be as close to the middle of a normal distribution."""
    return median([(one + other) / 2
                   for one, other in itertools.combinations_with_replacement(values, 2)])


def uncertainty(values):
    """The standard error of the pseudomedian, as a part of it: of a normal distribution, whose
    quartiles lie 0.674 standard deviations from its middle."""
    return math.sqrt(math.pi / 3) / 0.674 * spread(values) / math.sqrt(len(values))


def spread(values):
    """Half the distance between the quartiles, as a part of the median: 0.02 is "within 2%"."""
    if len(values) < 4:
        return (max(values) - min(values)) / 2 / (median(values) or 1)
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / (median(values) or 1)
