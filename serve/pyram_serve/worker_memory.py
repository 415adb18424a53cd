"""What a worker may have of its own before a new one takes its place.

A worker shares its parent's memory until it writes there, and a major collection of garbage writes into every
old object: after one, nothing is shared any more. So workers do without major collections. What they leave
behind grows slowly, and a worker that has written `limit` bytes of its own ends after its next answer, as with
gunicorn's --max-requests. The next one is forked from the warm parent, which costs some milliseconds.

An application that needs more than that (one that loads a model at its first request, say) would have its
workers replaced again and again. A worker that reaches the limit early stays, and collects as usual.
"""

import gc
import logging
import re

EVERY = 50  # Requests between two looks.
EARLY = 100  # Requests.


def own_memory(path="/proc/self/smaps_rollup"):
    """Bytes that this process has written and shares with nobody; None where the system doesn't say."""
    try:
        with open(path, encoding="ascii") as file:
            return int(re.search(r"^Private_Dirty: +(\d+) kB", file.read(), re.M).group(1)) << 10
    except (OSError, AttributeError):
        return None


class Watch:
    """Counts a worker's requests. Created in the parent, and asleep there."""

    def __init__(self, limit):
        self.limit = limit
        self.worker = None
        self.answered = 0

    def begin(self, worker):
        """In a worker, before its first request."""
        if self.limit and own_memory() is not None:
            self.worker = worker
            gc.disable()

    def request(self):
        if self.worker is None:
            return
        self.answered += 1
        if self.answered % EVERY:
            return
        memory = own_memory()
        if memory is None or memory < self.limit:
            return
        if self.answered <= EARLY:
            self._stay(memory)
        else:
            self._make_place(memory)
        self.worker = None

    def _stay(self, memory):
        self.worker.log.info("A worker has %d MB of its own after %d requests; it stays, and shares less",
                             memory >> 20, self.answered)
        gc.enable()

    def _make_place(self, memory):
        self.worker.log.debug("A worker has %d MB of its own after %d requests; a new one takes its place",
                              memory >> 20, self.answered)
        # gunicorn's lines about its end would be there every few seconds on a busy server.
        self.worker.log.error_log.addFilter(lambda record: record.levelno > logging.INFO)
        self.worker.max_requests = self.worker.nr
