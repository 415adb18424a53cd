"""What a worker may have of its own before a new one takes its place.

A worker shares its parent's memory until it writes there, and a major collection of garbage writes into every
old object: after one, nothing is shared any more. So workers do without major collections. What they leave
behind grows slowly, and a worker that has written `limit` bytes of its own ends after its next answer, as with
gunicorn's --max-requests. The next one is forked from the warm parent, which costs some milliseconds.

An application that needs more than that (one that loads a model at its first request, say) would have its
workers replaced again and again. A worker that reaches the limit early stays, and collects as usual, where the
memory has room for workers that share nothing. Where it has not, a worker still gets all the room that there is,
and is replaced then: better often than killed by the kernel.

A worker that is replaced takes along what it has compiled since it was forked. So where the memory has room for
workers that share nothing, all of them stay, and collect as usual.
"""

import gc
import logging
import re
import resource
import sys
import threading

from . import machine

OFTEN = 10  # Requests between two looks at the page faults, which cost next to nothing.
EVERY = 200  # Requests between two looks at the memory, at most. One costs as much as some requests.
FIRST = 5  # Requests before the first look: an application that was not warmed up for them may write 1 MB in each.
EARLY = 100  # Requests.
# What a worker that collects has beside the parent's memory: its compiler's data, and garbage.
STAYING = 96 << 20
# Requests of the warm-up between two collections of garbage. The workers share what lies dense in memory; without
# these collections the parent's memory grows by a third, most of it holes.
COLLECT_EVERY = 100
# The keeper, the daemon of the image, and the files of the image that are in use: without these in memory, every
# request waits for the kernel to read them again.
OTHERS = 64 << 20
LEAST = 8 << 20


def _field(name, path):
    """Bytes; None where the system doesn't say."""
    try:
        with open(path, encoding="ascii") as file:
            return int(re.search(r"^%s: +(\d+) kB" % name, file.read(), re.M).group(1)) << 10
    except (OSError, AttributeError):
        return None


def faults():
    """Page faults so far. Each gives the process a page of its own at most (larger pages aside)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def own_memory(path="/proc/self/smaps_rollup"):
    """Bytes that this process has written and shares with nobody."""
    return _field("Private_Dirty", path)


class Room:
    """What each worker may have, and whether that is enough for one that shares nothing with the parent."""

    def __init__(self, memory, parent, workers):
        self.size = max(LEAST, (int(memory * 0.95) - OTHERS - parent) // max(1, workers))
        self.staying = self.size >= parent + STAYING


def room(workers, path="/proc/self/smaps_rollup"):
    """To be asked in the parent, before it forks so many workers."""
    return Room(machine.memory_limit(), _field("Anonymous", path) or machine.PARENT, workers)


# A Watch's numbers.
ANSWERED = 0  # Requests so far.
NEXT = 1  # Requests at which the next look is.
LATEST = 2  # Requests at which the memory is looked at, also without page faults.
ENOUGH = 3  # Page faults at which it is.


class Watch:
    """Counts a worker's requests. Created in the parent.

    What it does often is the same in the parent's warm-up and in a worker, so that it is compiled before the fork: a
    branch that is new to PyPy in each worker would have the rest of that request interpreted. And the numbers lie in
    a list: PyPy compiles attributes that never change as constants, and the first change, after the fork, would throw
    away the compiled code of the whole request in each worker.
    """

    def __init__(self, megabytes):
        """0: workers stay. None: what the memory has room for decides."""
        self.limit = None if megabytes is None else megabytes << 20
        self.room = None
        self.worker = None
        self.before = 0
        self.in_parent = True
        self.numbers = [0, OFTEN, COLLECT_EVERY, sys.maxsize]
        self.looking = threading.Lock()

    def prepare(self, log, workers):
        """In the parent, before it forks."""
        self.room = room(workers)
        if self.limit is None:
            # With a quarter for what its last requests may still need.
            self.limit = 0 if self.room.staying else max(LEAST, self.room.size * 3 // 4)
        elif self.limit and self.room.size < self.limit:
            self.limit = self.room.size
            log.warning("The memory has room for %d MB of each worker's own: workers are replaced often. "
                        "Fewer workers (-w) have more", self.limit >> 20)

    def begin(self, worker):
        """In a worker, before its first request."""
        self.in_parent = False
        memory = own_memory()
        if self.limit and memory is not None:
            self.worker, self.before = worker, memory
            self.numbers[:] = [0, FIRST, FIRST, sys.maxsize]
            gc.disable()
        else:
            self._sleep()

    def request(self):
        numbers = self.numbers
        numbers[ANSWERED] += 1
        # Of several threads one looks.
        if numbers[ANSWERED] < numbers[NEXT] or not self.looking.acquire(False):
            return
        try:
            self._look(numbers[ANSWERED])
        finally:
            self.looking.release()

    def _look(self, answered):
        numbers = self.numbers
        if answered < numbers[LATEST] and faults() < numbers[ENOUGH]:
            numbers[NEXT] = min(numbers[LATEST], answered + OFTEN)
            return
        if self.in_parent:
            gc.collect()
            numbers[LATEST] = answered + COLLECT_EVERY
            return
        memory = own_memory()
        if memory is None or self.worker is None:
            self._sleep()
        elif memory < self.limit * 15 // 16:  # Nearer looks would cost more than the rest gives.
            self._next_look(answered, memory)
        elif answered <= EARLY and self.limit < self.room.size:
            self._use_the_room(answered, memory)
        else:
            self._make_place(answered, memory)

    def _sleep(self):
        self.worker = None
        self.numbers[NEXT] = sys.maxsize

    def _next_look(self, answered, memory):
        """The sooner, the less requests like those so far may still come."""
        left = max(0, self.limit - memory)
        each = max(1, (memory - self.before) // answered)
        latest = answered + max(1, min(EVERY, left // each // 2))
        enough = faults() + left // 2 // resource.getpagesize()
        self.numbers[:] = [answered, min(latest, answered + OFTEN), latest, enough]

    def _use_the_room(self, answered, memory):
        self.limit = self.room.size
        if self.room.staying:
            self.worker.log.info("A worker has %d MB of its own after %d requests; it stays, and shares less",
                                 memory >> 20, answered)
            gc.enable()
        self._next_look(answered, memory)

    def _make_place(self, answered, memory):
        self.worker.log.debug("A worker has %d MB of its own after %d requests; a new one takes its place",
                              memory >> 20, answered)
        # gunicorn's lines about its end would be there every few seconds on a busy server.
        self.worker.log.error_log.addFilter(lambda record: record.levelno > logging.INFO)
        self.worker.max_requests = self.worker.nr
        self._sleep()
