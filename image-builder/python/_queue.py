# Pyram: not PyPy's own.
"""What CPython has as a module in C: a queue.SimpleQueue whose put() may interrupt its get().

A signal handler or a finalizer may call put() at any moment, also while the same thread is inside get(). The
queue module's own SimpleQueue, which PyPy falls back to, holds a lock then, and waits for it for ever (gunicorn
24 and later has its signals in such a queue). Here, no lock is held at any time: a deque's operations are
atomic, and a thread that waits has a lock of its own that put() opens.
"""

from _thread import allocate_lock
from collections import deque
from time import monotonic
from types import GenericAlias

__all__ = ["Empty", "SimpleQueue"]


class Empty(Exception):
    "Exception raised by Queue.get(block=0)/get_nowait()."


# As CPython's: it is known by this name, also to pickle.
Empty.__module__ = "_queue"


class SimpleQueue:
    """Simple, unbounded, reentrant FIFO queue."""

    __slots__ = ("_items", "_sleepers", "__weakref__")

    def __init__(self):
        self._items = deque()
        self._sleepers = deque()  # A closed lock for each thread that waits.

    def put(self, item, block=True, timeout=None):
        """Put the item on the queue. It never blocks; block and timeout are for compatibility with Queue."""
        self._items.append(item)
        if self._sleepers:
            self._wake_one()

    def put_nowait(self, item):
        """Put an item into the queue; as put(item)."""
        self.put(item)

    def get(self, block=True, timeout=None):
        """Remove and return the oldest item. Waits for one where block is true, at most timeout seconds unless
        that is None, and raises Empty where there is none."""
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        try:
            return self._items.popleft()
        except IndexError:
            if not block:
                raise Empty from None
        return self._wait(timeout)

    def get_nowait(self):
        """Remove and return the oldest item, or raise Empty."""
        return self.get(False)

    def empty(self):
        """Return True if the queue is empty, False otherwise (not reliable!)."""
        return not self._items

    def qsize(self):
        """Return the approximate size of the queue (not reliable!)."""
        return len(self._items)

    def _wake_one(self):
        try:
            self._sleepers.popleft().release()
        except IndexError:
            pass  # It has ended its wait.

    def _wait(self, timeout):
        deadline = None if timeout is None else monotonic() + timeout
        lock = allocate_lock()
        while True:
            lock.acquire(False)
            self._sleepers.append(lock)
            try:
                # An item that came before the lock was there woke nobody.
                if not self._items:
                    lock.acquire(True, -1 if deadline is None else max(0, deadline - monotonic()))
                return self._items.popleft()
            except IndexError:
                if deadline is not None and monotonic() >= deadline:
                    raise Empty from None
            finally:
                self._leave(lock)

    def _leave(self, lock):
        """Where a put() chose this thread, but the thread took another's item or none, the next one is woken."""
        try:
            self._sleepers.remove(lock)
        except ValueError:
            if self._items and self._sleepers:
                self._wake_one()

    __class_getitem__ = classmethod(GenericAlias)


SimpleQueue.__module__ = "_queue"
