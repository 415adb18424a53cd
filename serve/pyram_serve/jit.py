"""How PyPy's compiler is set for a server.

PyPy counts how often each loop, function and guard runs, and compiles what reaches a threshold. It lets these
counts decay with every minor collection of garbage, so that what runs now and then is never compiled. A
server allocates much for each request: the counts of what runs once in a request decay faster than they grow,
and a Django site is compiled piece by piece over a minute of full load. Here counts don't decay.

Lower thresholds than PyPy's own compile more in the first seconds, but worse code.

concurrent.futures has a lock that is held during a fork, and replaced in the child. Code that was compiled before
goes on with the old one, as PyPy takes a lock's inside for a constant: a worker's threads would wait for it for ever
(PyPy 7.3.19). So another lock is there, which is held during a fork too, and stays the same in the child.
"""

import concurrent.futures.thread
import os
import threading

try:
    import pypyjit
except ImportError:  # Another Python.
    pypyjit = None


def serve():
    """The settings of a process that serves."""
    if pypyjit:
        pypyjit.set_param("decay=0")
        lock = concurrent.futures.thread._global_shutdown_lock = threading.Lock()
        os.register_at_fork(before=lock.acquire, after_in_child=lock.release, after_in_parent=lock.release)
