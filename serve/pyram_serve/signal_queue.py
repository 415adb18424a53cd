"""A queue that a signal handler may put into.

gunicorn 24 and later has its signals in a queue.SimpleQueue. CPython's takes an interrupted get() into account;
PyPy's is plain Python with a lock, so a signal that arrives during get() waits for ever for that lock.
"""

import collections
import os
import queue
import select


class SignalQueue:
    """As much of queue.SimpleQueue as the arbiter uses. For one thread and its signal handlers."""

    def __init__(self):
        self.items = collections.deque()
        # A byte for each item wakes get().
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)

    def put_nowait(self, item):
        self.items.append(item)
        try:
            os.write(self.writer, b"\0")
        except BlockingIOError:
            pass  # There are bytes enough to wake it.

    def get_nowait(self):
        try:
            return self.items.popleft()
        except IndexError:
            raise queue.Empty from None

    def get(self, block=True, timeout=None):
        """May also raise queue.Empty before the time is over; the arbiter then looks after its workers."""
        if block and not self.items:
            select.select([self.reader], [], [], timeout)
        try:
            os.read(self.reader, 4096)
        except BlockingIOError:
            pass
        return self.get_nowait()
